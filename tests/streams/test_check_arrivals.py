"""The checker's columns: what goes in comes out, and every output is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.checks.arrivals import Arrivals
from streams.checks.landings import Arrival

digests = st.integers(-(2**63), 2**63 - 1)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[bool, dict[int, Arrival]]:
    """Of the overflow lane or another: offsets with holes, ids of any text and none."""
    deferred = draw(st.booleans())
    found = {}
    for offset in sorted(draw(st.sets(st.integers(0, 2**40), max_size=20))):
        frame = draw(digests)
        found[offset] = Arrival(
            draw(st.none() | st.text(max_size=9)), draw(digests), draw(st.integers(0, 2**31)), draw(digests),
            frame, draw(digests) if deferred else frame,
            draw(st.none() | st.tuples(st.integers(0, 999), st.integers(0, 2**40))) if deferred else None,
        )  # fmt: skip
    return deferred, found


@given(inputs(), st.data())
def test_what_was_taken_in_is_found_and_counted(made: tuple[bool, dict[int, Arrival]], data: st.DataObject):
    deferred, known = made
    arrivals = Arrivals(deferred)
    for offset, arrival in known.items():
        arrivals.add(offset, arrival)
    assert len(arrivals) == len(known)
    landed = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=30)) if known else []
    for offset in landed:
        assert arrivals.land(offset) == known[offset]
    assert list(arrivals.counted()) == [(offset, landed.count(offset)) for offset in known]
    assert [arrivals.id_at(offset) for offset in known] == [arrival.id for arrival in known.values()]
    for offset in known:
        if offset + 1 not in known:
            assert arrivals.land(offset + 1) is None


def test_records_come_in_order():
    arrivals = Arrivals(False)
    one = Arrival("a", 1, 2, 3, 4, 4)
    arrivals.add(7, one)
    with pytest.raises(ValueError, match="offset 7 came after 7"):
        arrivals.add(7, one)
    for _ in range(300):
        arrivals.land(7)
    assert list(arrivals.counted()) == [(7, 255)]
