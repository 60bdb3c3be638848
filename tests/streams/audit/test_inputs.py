"""Columns of input records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.audit.inputs import InputColumns
from streams.audit.outputs import InputRecord

digests = st.integers(-(2**63), 2**63 - 1)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[bool, dict[int, InputRecord]]:
    """Records of any lane: offsets with gaps, ids of any text or none."""
    deferred = draw(st.booleans())
    records = {}
    for offset in sorted(draw(st.sets(st.integers(0, 2**40), max_size=20))):
        frame = draw(digests)
        records[offset] = InputRecord(
            draw(st.none() | st.text(max_size=9)),
            draw(digests),
            draw(st.integers(0, 2**31)),
            draw(digests),
            frame,
            draw(digests) if deferred else frame,
            draw(st.none() | st.tuples(st.integers(0, 999), st.integers(0, 2**40))) if deferred else None,
        )
    return deferred, records


@given(inputs(), st.data())
def test_count_output_of_any_records_returns_and_counts_them(
    made: tuple[bool, dict[int, InputRecord]], data: st.DataObject
):
    deferred, records = made
    columns = InputColumns(deferred)
    for offset, record in records.items():
        columns.append(offset, record)
    assert len(columns) == len(records)
    outputs = data.draw(st.lists(st.sampled_from(sorted(records)), max_size=30)) if records else []
    for offset in outputs:
        assert columns.count_output(offset) == records[offset]
    assert list(columns.counted()) == [(offset, outputs.count(offset)) for offset in records]
    assert [columns.id_at(offset) for offset in records] == [record.id for record in records.values()]
    for offset in records:
        if offset + 1 not in records:
            assert columns.count_output(offset + 1) is None


def test_append_out_of_order_raises():
    columns = InputColumns(False)
    one = InputRecord("a", 1, 2, 3, 4, 4)
    columns.append(7, one)
    with pytest.raises(ValueError, match="offset 7 came after 7"):
        columns.append(7, one)
    for _ in range(300):
        columns.count_output(7)
    assert list(columns.counted()) == [(7, 255)]
