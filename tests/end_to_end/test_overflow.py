"""Sixteen partitions share tight budgets: nothing is overspent, and little is lost against one partition.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

import numpy as np

from routing.simulate import account_for
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.data import Small
from tests.end_to_end.fleet import total
from tests.end_to_end.routers import Router, assert_whole

STEADY = {"warmup": "history", "resolve": "every", "solver": "newton", "period_seconds": 1e6}
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


def route_all(stream: Router) -> float:
    stream.start(ready=True)
    count = len(stream.small.prepared.queries)
    for first in range(0, count, STRETCH):
        # no faster than they are routed: a period that is over in one look of the planner is another matter
        stream.send(range(first, min(first + STRETCH, count)))
        stream.all_landed(120)
    verdict = assert_whole(stream)
    assert verdict.overdrawn_pico == 0
    spent = total(stream, "charged")
    assert (spent <= np.ceil(stream.catalogue.budgets([], []) * 1e12)).all()
    return performance(stream)


def test_sixteen_partitions_lose_little_against_one(router: MakeRouter, small: Small) -> None:
    one = route_all(router(partitions=1, **STEADY))
    stream = router(partitions=16, **STEADY)
    many = route_all(stream)
    through = sum(landing.source is not None for (landing,) in stream.landed.values())
    assert through > 0, "budgets so small live in the pool"
    assert many > 0.95 * one
