"""What is told of a lane's transactions: each query once, when it has come to its place."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from routing.account import Account
from routing.decision import DEFERRED
from routing.estimators.base import Estimates
from routing.policy import Routed
from streams.histogram import Histogram
from streams.intake import Arrivals
from streams.lag import Lag
from streams.messages import Refused, decode_query
from streams.metrics import Metrics, Sources
from streams.overflow import OverflowIntake
from streams.posting import Decided, post_queries
from streams.settings import Settings
from streams.watching import watched_router
from tests.streams.cluster_made_up import make_account, make_ledger, make_plan

TOPICS, POOL = Settings().topics, 2


class MadeUpDesk:
    """Commits what it is told to have decided."""

    def __init__(self, lane: int) -> None:
        self.record, self.decided = make_ledger(lane, make_account()), None
        self.upcoming: Decided | None = None

    def step(self, records: list) -> None:
        self.decided = self.upcoming
        self.record = replace(self.record, next=self.record.next + len(records))


def record_sent(seconds_ago: float, offset: int, **more) -> SimpleNamespace:
    plain = {
        "topic": "queries", "partition": 0, "offset": offset, "key": None, "headers": None,
        "value": f'{{"id": "q{offset}", "prompt": "?"}}'.encode(),
        "timestamp": int(1000 * (time.time() - seconds_ago)),
    }  # fmt: skip
    return SimpleNamespace(**(plain | more))


def decide(lane: int, arrivals: Arrivals, *choice: int) -> Decided:
    n = len(arrivals.records)
    charge = np.zeros((n, 2), np.int64)
    routed = Routed(np.array(choice, np.int64), charge[:, 0], np.zeros((n, 2)), Account.fresh(3, 2))
    return Decided(make_plan(), lane, arrivals, arrivals.estimates, charge, routed, np.arange(n), [None] * n)


def deferred_by(decided: Decided, seconds_ago: float) -> list[SimpleNamespace]:
    """What it posted to the overflow lane, as records of that, written there so long ago."""
    posted: list[SimpleNamespace] = []

    def out(topic, value, key, headers, partition=-1) -> None:
        if topic == TOPICS.overflow:
            posted.append(
                record_sent(seconds_ago, len(posted), topic=topic, value=value, key=key, headers=headers)
            )

    post_queries(out, TOPICS, ["llm.a", "llm.b"], decided)
    return posted


def step(metrics: Metrics, lane: int, records: list, decided: Decided | None) -> None:
    desk = MadeUpDesk(lane)
    desk.upcoming = decided
    watched_router(desk, metrics, lambda: None).step(records)  # type: ignore[arg-type]


def told(histogram: Histogram) -> tuple[int, float]:
    counts, total = histogram.counts()
    return int(counts.sum()), total


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Sources(lambda: None, Lag, lambda: None, lambda: True, lambda: 0.0))


def arrived(records: list, refused: list = ()) -> Arrivals:  # type: ignore[assignment]
    queries = [decode_query(record.value, None) for record in records]
    half = np.full((len(records), 2), 0.5)
    error = Refused("decode", "prompt", "is missing")
    return Arrivals(records, queries, Estimates(half, half), [(record, error) for record in refused])


def test_a_deferred_query_is_counted_once_and_from_when_it_was_sent(metrics):
    served, unserved, late, dead = (record_sent(age, i) for i, age in enumerate((1, 1, 100, 1)))
    decided = decide(0, arrived([served, unserved, late], [dead]), 0, -1, DEFERRED)
    step(metrics, 0, [served, unserved, late, dead], decided)
    assert told(metrics.latency_seconds) == (3, pytest.approx(3, abs=2))

    records = deferred_by(decided, seconds_ago=20)
    assert len(records) == 1
    step(metrics, POOL, records, decide(POOL, OverflowIntake().take(records), 1))
    count, total = told(metrics.latency_seconds)
    assert (count, total) == (4, pytest.approx(103, abs=5))


def test_what_an_older_worker_deferred_is_measured_from_then(metrics):
    decided = decide(0, arrived([record_sent(100, 0)]), DEFERRED)
    (record,) = deferred_by(decided, seconds_ago=20)
    ((name, header),) = record.headers
    record.headers = [(name, header.replace(b'"timestamp"', b'"unknown"'))]
    step(metrics, POOL, [record], decide(POOL, OverflowIntake().take([record]), 1))
    assert told(metrics.latency_seconds) == (1, pytest.approx(20, abs=5))


def test_warm_up_puts_no_query_in_its_place(metrics):
    step(metrics, 0, [record_sent(1, 0)], None)
    assert told(metrics.latency_seconds) == (0, 0)
