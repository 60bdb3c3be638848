"""Sixteen partitions share tight budgets: nothing is overspent, and little is lost against one partition.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

import numpy as np

from routing.simulate import account_for
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.data import Small
from tests.end_to_end.fleet import available, total
from tests.end_to_end.routers import Router, assert_whole
from tests.end_to_end.workers import Worker

EVERY = {"warmup": "history", "resolve": "every", "solver": "newton"}
STRETCH = 25
"""Queries that are sent at a time."""


def performance(stream: Router) -> float:
    """Sum of the true qualities of what was routed, under the accounting rule."""
    queries = stream.small.prepared.queries
    models = {name: number for number, name in enumerate(stream.catalogue.names)}
    row_of = {identity: row for row, identity in enumerate(queries.ids)}
    rows, choice = [], []
    for place, (landing,) in sorted(stream.landed.items()):
        rows.append(row_of[stream.sent[place]])
        choice.append(models.get(landing.model or "", -1))
    budgets = stream.catalogue.budgets([], [])
    return account_for(np.array(choice), queries.quality[rows], queries.cost[rows], budgets).performance


def route_all(stream: Router, stretch: int) -> float:
    """Route a whole period, so many queries at a time, and check what came of it."""
    stream.start(ready=True)
    count = len(stream.small.prepared.queries)
    for first in range(0, count, stretch):
        stream.send(range(first, min(first + stretch, count)))
        stream.all_landed(120)
    verdict = assert_whole(stream)
    assert verdict.overdrawn_pico == 0
    spent = total(stream, "charged", 1)
    assert (spent <= np.ceil(stream.catalogue.budgets([], []) * 1e12)).all()
    return performance(stream)


def through_the_lane(stream: Router) -> int:
    return sum(landing.source is not None for (landing,) in stream.landed.values())


def test_sixteen_partitions_lose_little_against_one(router: MakeRouter, small: Small) -> None:
    """Steadily, and when a whole period comes at once: over before rights could move to lanes and back."""
    one = route_all(router(partitions=1, **EVERY), STRETCH)
    steady = router(partitions=16, **EVERY)
    assert route_all(steady, STRETCH) > 0.95 * one
    assert through_the_lane(steady) > 0, "budgets so small live in the pool"
    burst = router(partitions=16, **EVERY)
    assert route_all(burst, len(small.prepared.queries)) > 0.95 * one
    served = sum(landing.model is not None for (landing,) in burst.landed.values())
    assert through_the_lane(burst) >= 0.9 * served, "the pool keeps what a burst needs"


def lanes_of(worker: Worker) -> list[str]:
    """What a worker owned last, as topic and partition."""
    *_, last = worker.events("lanes_assigned")
    return list(last["lanes"])


def test_rights_that_a_dead_workers_lane_held_are_spent_by_its_next_owner(
    router: MakeRouter, small: Small
) -> None:
    """Kill -9 of a worker whose lane holds rights: the budget is spent to its end all the same."""
    count = len(small.prepared.queries)
    # priced for fewer queries than come, so that budgets are spent before the last of them
    stream = router(partitions=2, warmup="history", horizon=count, period_seconds=1e6)
    workers = [stream.start(ready=True), stream.start(ready=True)]
    place = f"{stream.topics.queries}:0"
    for first in range(0, 600, 20):
        stream.send(range(first, first + 20))
        stream.all_landed()
        much = (available(stream)[0] > 0.03 * stream.plan().budgets).any()
        if much and sum(place in lanes_of(worker) for worker in workers) == 1:
            break
    (owner,) = (worker for worker in workers if place in lanes_of(worker))
    owner.kill()
    held, plan = available(stream)[0], stream.plan()
    llm = int((held / plan.budgets).argmax())
    assert held[llm] > 0.03 * plan.budgets[llm], "the lane holds rights"
    assert plan.prices[llm] > 0, "and they are worth something"

    # not at once: what others pass on while the dead one's rights wait for an owner cannot be paid by them
    for number, first in enumerate(range(0, 3 * count // 2, STRETCH)):
        stream.send(range(first % count, min(first % count + STRETCH, count)), tag=f"after-{number}-")
        stream.all_landed(180)
    assert_whole(stream)
    left = plan.budgets - total(stream, "charged")
    assert (left >= 0).all()
    assert left[llm] < 0.5 * held[llm], "nothing of them is stranded"
