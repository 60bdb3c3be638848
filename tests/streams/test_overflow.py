"""Deferred queries carry what is known about them, and go on as they came."""

from base64 import b64encode
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.alignment import CLOSED_COST
from routing.estimators.base import Estimates
from streams.finding import deferred_from
from streams.overflow import HEADER, OverflowIntake, overflow_headers
from tests.streams.kept_in_memory import Message

VALUE = b'{"id": "q", "prompt": "Why?", "other":  1.50}'
SENT = 1_700_000_000_123


def record(headers, value=VALUE, offset=0) -> SimpleNamespace:
    return SimpleNamespace(
        topic="router.overflow", partition=0, offset=offset, timestamp=5, key=b"k", value=value,
        headers=headers,
    )  # fmt: skip


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
@settings(deadline=None)
def test_estimates_and_charges_arrive_to_the_last_digit(rows, lane, offset):
    records = []
    for row in rows:
        quality, cost, charge = (np.array(column)[None] for column in zip(*row, strict=True))
        source = SimpleNamespace(offset=offset, timestamp=SENT)
        estimates = Estimates(quality.astype(float), cost.astype(float))
        headers = overflow_headers(lane, source, estimates, charge, 0, None)
        records.append(record(headers))
    arrivals = OverflowIntake().take(records)
    width = max(map(len, rows))
    assert arrivals.estimates.quality.shape == (len(rows), width)
    assert arrivals.sources == [(lane, offset)] * len(rows)
    for row, quality, cost, charge in zip(
        rows, arrivals.estimates.quality, arrivals.estimates.cost, arrivals.charge, strict=True
    ):
        assert quality.tolist() == [r[0] for r in row] + [0.0] * (width - len(row))
        assert cost.tolist() == [r[1] for r in row] + [CLOSED_COST] * (width - len(row))
        assert charge.tolist() == [r[2] for r in row] + [0] * (width - len(row))


def test_the_record_goes_on_without_our_header():
    own = [("traceparent", b"t"), (HEADER, b"a client's"), ("x", None)]
    arrivals = OverflowIntake().take([record(deferred(own=own))])
    (plain,) = arrivals.records
    assert plain.headers == own
    assert (plain.key, plain.value, plain.offset) == (b"k", VALUE, 0)
    assert plain.timestamp == SENT
    assert arrivals.queries[0].value == VALUE


def test_what_a_bound_pays_for_stays_with_it():
    arrivals = OverflowIntake().take([record(deferred(most=77)), record(deferred(), offset=1)])
    assert arrivals.answer_tokens == [77, None]


def test_where_a_query_came_from_is_what_our_own_header_says():
    ((name, content),) = deferred()
    told = orjson.loads(content)
    own = [(HEADER, b'{"partition": 77, "offset": 88}'), (name, content), ("x", None)]
    assert deferred_from(Message(0, VALUE, more=own)) == (told["partition"], told["offset"])
    assert deferred_from(Message(0, VALUE)) == (-1, -1)


def test_nothing_is_no_batch():
    arrivals = OverflowIntake().take([])
    assert arrivals.records == []
    assert len(arrivals.estimates) == 0
    assert arrivals.charge.shape == (0, 0)


def test_headers_of_older_workers_are_read_and_ours_have_what_those_read():
    ((name, content),) = deferred()
    fields = orjson.loads(content)
    del fields["timestamp"]
    assert fields.keys() == {"partition", "offset", "quality", "cost", "charge"}
    arrivals = OverflowIntake().take([record([(name, orjson.dumps(fields))])])
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
        [(HEADER, None)],
        [(HEADER, b"\xff")],
        [(HEADER, b"[]")],
        [(HEADER, b"7")],
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
)  # fmt: skip
def test_one_that_cannot_be_read_is_refused_and_stops_no_other(headers):
    broken, good = record(headers), record(deferred(), offset=1)
    arrivals = OverflowIntake().take([broken, good])
    assert [(source.offset, error.field) for source, error in arrivals.refused] == [(0, "headers")]
    assert [source.offset for source in arrivals.records] == [1]
    assert len(arrivals.queries) == len(arrivals.estimates) == 1


def test_a_query_that_cannot_be_read_is_refused_with_the_bytes_it_came_in():
    arrivals = OverflowIntake().take([record(deferred(), value=b"{")])
    ((source, error),) = arrivals.refused
    assert (source.value, error.field) == (b"{", "value")
    assert arrivals.records == []
