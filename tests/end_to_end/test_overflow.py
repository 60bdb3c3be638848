"""Sixteen partitions share tight budgets: they overspend nothing and lose little against one partition.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

import numpy as np

from routing.accounting import account_for
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import available, total
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import Worker

EVERY = {"warmup": "history", "resolve": "every", "solver": "newton"}
CHUNK_QUERIES = 25
"""Queries that are sent at a time."""


def performance(stream: Router) -> float:
    """Return the sum of true qualities of the routed queries, under the accounting rule."""
    queries = stream.small.prepared.queries
    models = {name: number for number, name in enumerate(stream.catalogue.names)}
    row_of = {identity: row for row, identity in enumerate(queries.ids)}
    rows, choice = [], []
    for place, (landing,) in sorted(stream.landed.items()):
        rows.append(row_of[stream.sent[place]])
        choice.append(models.get(landing.model or "", -1))
    budgets = stream.catalogue.budget_per_llm([], [])
    return account_for(np.array(choice), queries.quality[rows], queries.cost[rows], budgets).performance


def route_all(stream: Router, chunk: int) -> float:
    """Route a whole period, `chunk` queries at a time, check it, and return its performance."""
    stream.start(ready=True)
    count = len(stream.small.prepared.queries)
    for first in range(0, count, chunk):
        stream.send(range(first, min(first + chunk, count)))
        stream.all_landed(120)
    verdict = assert_whole(stream)
    assert verdict.overdrawn_pico == 0
    spent = total(stream, "charged", 1)
    assert (spent <= np.ceil(stream.catalogue.budget_per_llm([], []) * 1e12)).all()
    return performance(stream)


def overflow_count(stream: Router) -> int:
    return sum(landing.source is not None for (landing,) in stream.landed.values())


def test_sixteen_partitions_reach_95_per_cent_of_one_partition(router: MakeRouter, small: Small) -> None:
    """Test a steady stream, and a whole period at once, which ends before grants can move between lanes."""
    one = route_all(router(partitions=1, **EVERY), CHUNK_QUERIES)
    steady = router(partitions=16, **EVERY)
    assert route_all(steady, CHUNK_QUERIES) > 0.95 * one
    assert overflow_count(steady) > 0, "the pool holds budgets as small as these"
    burst = router(partitions=16, **EVERY)
    assert route_all(burst, len(small.prepared.queries)) > 0.95 * one
    served = sum(landing.model is not None for (landing,) in burst.landed.values())
    assert overflow_count(burst) >= 0.9 * served, "the pool keeps the budget that a burst needs"


def lanes_of(worker: Worker) -> list[str]:
    """Return the lanes that were assigned to a worker last, as topic and partition."""
    *_, last = worker.events("lanes_assigned")
    return list(last["lanes"])


def test_grants_of_a_killed_workers_lane_are_spent_by_its_next_owner(
    router: MakeRouter, small: Small
) -> None:
    """Kill a worker whose lane holds grants; the budget must still be spent completely."""
    count = len(small.prepared.queries)
    # The horizon is smaller than the stream, so that budgets are spent before the last query.
    stream = router(partitions=2, warmup="history", horizon=count, period_seconds=1e6)
    workers = [stream.start(ready=True), stream.start(ready=True)]
    lane = f"{stream.topics.queries}:0"
    for first in range(0, 600, 20):
        stream.send(range(first, first + 20))
        stream.all_landed()
        holds_grants = (available(stream)[0] > 0.03 * stream.plan().budgets).any()
        if holds_grants and sum(lane in lanes_of(worker) for worker in workers) == 1:
            break
    (owner,) = (worker for worker in workers if lane in lanes_of(worker))
    owner.kill()
    available_before, plan = available(stream)[0], stream.plan()
    llm = int((available_before / plan.budgets).argmax())
    assert available_before[llm] > 0.03 * plan.budgets[llm], "the lane holds grants"
    assert plan.prices[llm] > 0, "the grants have a price"

    # In chunks: queries deferred while the dead worker's grants have no owner cannot use them.
    for number, first in enumerate(range(0, 3 * count // 2, CHUNK_QUERIES)):
        stream.send(range(first % count, min(first % count + CHUNK_QUERIES, count)), tag=f"after-{number}-")
        stream.all_landed(180)
    assert_whole(stream)
    remaining = plan.budgets - total(stream, "charged")
    assert (remaining >= 0).all()
    assert remaining[llm] < 0.5 * available_before[llm], "no grant is stranded"
