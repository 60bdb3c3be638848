"""Intake of the overflow lane: deferred queries carry their estimates and keep their bytes."""

from base64 import b64encode
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.estimators.base import Estimates
from routing.policy.alignment import CLOSED_COST
from streams.messages.deferred import (
    OVERFLOW_HEADER,
    overflow_headers,
)
from streams.operations.query_search import deferred_from
from streams.router.overflow_intake import (
    OverflowIntake,
)
from tests.streams.memory_topics import Message

VALUE = b'{"id": "q", "prompt": "Why?", "other":  1.50}'
SENT = 1_700_000_000_123


def record(headers, value=VALUE, offset=0) -> SimpleNamespace:
    return SimpleNamespace(
        topic="router.overflow",
        partition=0,
        offset=offset,
        timestamp=5,
        key=b"k",
        value=value,
        headers=headers,
    )


def deferred(models: int = 3, seed: int = 0, lane: int = 2, offset: int = 7, own=(), most=None) -> list:
    random = np.random.default_rng(seed)
    estimates = Estimates(random.random((1, models)), random.random((1, models)))
    charge = random.integers(0, 2**62, (1, models))
    source = SimpleNamespace(offset=offset, timestamp=SENT)
    return [*own, *overflow_headers(lane, source, estimates, charge, 0, most)]


numbers = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1e3), st.integers(0, 2**63 - 1)), min_size=1, max_size=6
)


@given(st.lists(numbers, min_size=1, max_size=5), st.integers(0, 99), st.integers(0, 2**63 - 1))
def test_decode_overflow_record_returns_exact_estimates_and_charges(rows, lane, offset):
    records = []
    for row in rows:
        quality, cost, charge = (np.array(column)[None] for column in zip(*row, strict=True))
        source = SimpleNamespace(offset=offset, timestamp=SENT)
        estimates = Estimates(quality.astype(float), cost.astype(float))
        headers = overflow_headers(lane, source, estimates, charge, 0, None)
        records.append(record(headers))
    arrivals = OverflowIntake().decode(records)
    width = max(map(len, rows))
    assert arrivals.estimates.quality.shape == (len(rows), width)
    assert arrivals.sources == [(lane, offset)] * len(rows)
    for row, quality, cost, charge in zip(
        rows, arrivals.estimates.quality, arrivals.estimates.cost, arrivals.charge, strict=True
    ):
        assert quality.tolist() == [r[0] for r in row] + [0.0] * (width - len(row))
        assert cost.tolist() == [r[1] for r in row] + [CLOSED_COST] * (width - len(row))
        assert charge.tolist() == [r[2] for r in row] + [0] * (width - len(row))


def test_decode_overflow_record_removes_header_of_router():
    own = [("traceparent", b"t"), (OVERFLOW_HEADER, b"a client's"), ("x", None)]
    arrivals = OverflowIntake().decode([record(deferred(own=own))])
    (plain,) = arrivals.records
    assert plain.headers == own
    assert (plain.key, plain.value, plain.offset) == (b"k", VALUE, 0)
    assert plain.timestamp == SENT
    assert arrivals.queries[0].value == VALUE


def test_decode_overflow_record_keeps_answer_tokens():
    arrivals = OverflowIntake().decode([record(deferred(most=77)), record(deferred(), offset=1)])
    assert arrivals.answer_tokens == [77, None]


def test_decode_overflow_record_takes_source_from_last_header():
    ((name, content),) = deferred()
    place = orjson.loads(content)
    own = [(OVERFLOW_HEADER, b'{"partition": 77, "offset": 88}'), (name, content), ("x", None)]
    assert deferred_from(Message(0, VALUE, more=own)) == (place["partition"], place["offset"])
    assert deferred_from(Message(0, VALUE)) == (-1, -1)


def test_decode_no_records_returns_empty_batch():
    arrivals = OverflowIntake().decode([])
    assert arrivals.records == []
    assert len(arrivals.estimates) == 0
    assert arrivals.charge.shape == (0, 0)


def test_decode_overflow_header_of_older_release_is_compatible():
    ((name, content),) = deferred()
    fields = orjson.loads(content)
    del fields["timestamp"]
    assert fields.keys() == {"partition", "offset", "quality", "cost", "charge"}
    arrivals = OverflowIntake().decode([record([(name, orjson.dumps(fields))])])
    assert [plain.timestamp for plain in arrivals.records] == [5]


def spoiled(**changes) -> list:
    ((name, content),) = deferred()
    return [(name, orjson.dumps({**orjson.loads(content), **changes}))]


def packed(numbers: list) -> str:
    return b64encode(np.array(numbers).tobytes()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        (),
        None,
        [(OVERFLOW_HEADER, None)],
        [(OVERFLOW_HEADER, b"\xff")],
        [(OVERFLOW_HEADER, b"[]")],
        [(OVERFLOW_HEADER, b"7")],
        spoiled(partition=None),
        spoiled(offset="x"),
        spoiled(timestamp=None),
        spoiled(timestamp="soon"),
        spoiled(quality="AAAA"),
        spoiled(charge=7),
        spoiled(cost=""),
        spoiled(cost=packed([np.nan] * 3)),
        spoiled(quality=packed([0.5, -0.5, 0.5])),
        spoiled(charge=packed([5, -5, 5])),
    ],
)
def test_decode_invalid_overflow_header_is_rejected_alone(headers):
    broken, good = record(headers), record(deferred(), offset=1)
    arrivals = OverflowIntake().decode([broken, good])
    assert [(source.offset, error.field) for source, error in arrivals.refused] == [(0, "headers")]
    assert [source.offset for source in arrivals.records] == [1]
    assert len(arrivals.queries) == len(arrivals.estimates) == 1


def test_decode_invalid_deferred_query_is_rejected_with_original_bytes():
    arrivals = OverflowIntake().decode([record(deferred(), value=b"{")])
    ((source, error),) = arrivals.refused
    assert (source.value, error.field) == (b"{", "value")
    assert arrivals.records == []
