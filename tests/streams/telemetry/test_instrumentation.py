"""Instrumented processors: latencies of queries."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.policy.account import Account
from routing.policy.decision import DEFERRED, NOT_WORTH_IT, SERVED, UNSERVED
from routing.policy.policy import RoutingDecisions
from streams.config.settings import Settings
from streams.messages.query import (
    decode_query,
)
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.router.batch import (
    DecidedBatch,
    IntakeBatch,
    LaneCommit,
)
from streams.router.outputs import (
    produce_queries,
)
from streams.router.overflow_intake import OverflowIntake
from streams.router.query_terms import BatchTerms
from streams.telemetry.histogram import Histogram
from streams.telemetry.instrumentation import instrument_router
from streams.telemetry.lag import Lag
from streams.telemetry.metrics import Metrics, Sources
from tests.streams.sample_cluster import make_account, make_ledger, make_plan

TOPICS, POOL = Settings().topics, 2


class SyntheticProcessor:
    """A processor that commits given decisions."""

    def __init__(self, lane: int) -> None:
        self.record = make_ledger(lane, make_account())
        self.upcoming: DecidedBatch | None = None

    def process(self, records: list) -> LaneCommit:
        before = self.record
        self.record = replace(before, next=before.next + len(records))
        return LaneCommit(before, self.record, self.upcoming)


def record_sent(seconds_ago: float, offset: int, **more) -> SimpleNamespace:
    plain = {
        "topic": "queries",
        "partition": 0,
        "offset": offset,
        "key": None,
        "headers": None,
        "value": f'{{"id": "q{offset}", "prompt": "?"}}'.encode(),
        "timestamp": int(1000 * (time.time() - seconds_ago)),
    }
    return SimpleNamespace(**(plain | more))


def decide(lane: int, arrivals: IntakeBatch, *choice: int) -> DecidedBatch:
    n = len(arrivals.records)
    charge = np.zeros((n, 2), np.int64)
    none = np.full(n, -1, np.int64)
    routed = RoutingDecisions(
        np.array(choice, np.int64),
        charge[:, 0],
        np.zeros((n, 2)),
        Account.fresh(3, 2),
        np.where(np.array(choice) == UNSERVED, NOT_WORTH_IT, SERVED),
        none,
    )
    available = np.zeros(2, np.int64)
    return DecidedBatch(
        make_plan(),
        lane,
        arrivals,
        arrivals.estimates,
        charge,
        routed,
        np.arange(n),
        [None] * n,
        available,
        BatchTerms(QueryTerms(), make_plan().models),
        arrivals.estimates,
    )


def deferred_by(decided: DecidedBatch, seconds_ago: float) -> list[SimpleNamespace]:
    """Return the deferred queries as records of the overflow topic, written this long ago."""
    posted: list[SimpleNamespace] = []

    def out(topic, value, key, headers, partition=-1) -> None:
        if topic == TOPICS.overflow:
            posted.append(
                record_sent(seconds_ago, len(posted), topic=topic, value=value, key=key, headers=headers)
            )

    produce_queries(out, TOPICS, ["llm.a", "llm.b"], decided, time.time(), 1)
    return posted


def step(metrics: Metrics, lane: int, records: list, decided: DecidedBatch | None) -> None:
    processor = SyntheticProcessor(lane)
    processor.upcoming = decided
    instrument_router(processor, metrics, lambda: None).process(records)  # type: ignore[arg-type]


def observed(histogram: Histogram) -> tuple[int, float]:
    counts, total = histogram.counts()
    return int(counts.sum()), total


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Sources(lambda: None, Lag, lambda: None, lambda: True, lambda: 0.0))


def arrived(records: list, refused: list = ()) -> IntakeBatch:  # type: ignore[assignment]
    queries = [decode_query(record.value, None) for record in records]
    half = np.full((len(records), 2), 0.5)
    error = RejectedMessage(RejectionReason.EMPTY_TEXT, "prompt", shown="is missing;")
    return IntakeBatch(records, queries, Estimates(half, half), [(record, error) for record in refused])


def test_latency_of_a_deferred_query_is_counted_once_from_its_timestamp(metrics):
    served, unserved, late, dead = (record_sent(age, i) for i, age in enumerate((1, 1, 100, 1)))
    decided = decide(0, arrived([served, unserved, late], [dead]), 0, -1, DEFERRED)
    step(metrics, 0, [served, unserved, late, dead], decided)
    assert observed(metrics.latency_seconds) == (3, pytest.approx(3, abs=2))

    records = deferred_by(decided, seconds_ago=20)
    assert len(records) == 1
    step(metrics, POOL, records, decide(POOL, OverflowIntake().decode(records), 1))
    count, total = observed(metrics.latency_seconds)
    assert (count, total) == (4, pytest.approx(103, abs=5))


def test_latency_of_a_query_deferred_by_an_older_worker_begins_at_its_deferral(metrics):
    decided = decide(0, arrived([record_sent(100, 0)]), DEFERRED)
    (record,) = deferred_by(decided, seconds_ago=20)
    ((name, header),) = record.headers
    record.headers = [(name, header.replace(b'"timestamp"', b'"unknown"'))]
    step(metrics, POOL, [record], decide(POOL, OverflowIntake().decode([record]), 1))
    assert observed(metrics.latency_seconds) == (1, pytest.approx(20, abs=5))


def test_latency_during_warm_up_counts_no_query(metrics):
    step(metrics, 0, [record_sent(1, 0)], None)
    assert observed(metrics.latency_seconds) == (0, 0)


def test_dead_letters_of_each_commit_are_reported(metrics):
    good, bad = record_sent(1.0, 0), record_sent(1.0, 1)
    processor = SyntheticProcessor(0)
    processor.upcoming = decide(0, arrived([good], [bad]), 0)
    reports: list[tuple[int, int]] = []
    instrumented = instrument_router(
        processor,  # type: ignore[arg-type]
        metrics,
        lambda: None,
        on_dead_letters=lambda queries, dead: reports.append((queries, dead)),
    )
    instrumented.process([good, bad])
    assert reports == [(2, 1)]
