"""One small stream for the tests that look at what a router left behind."""

from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from confluent_kafka.admin import AdminClient

from tests.streams.stepped_router import SteppedRouter

BUDGETS = {"small": 0.3, "vendor/middle": 1.6, "large": 0.008}


@pytest.fixture(scope="session")
def stepped(
    bootstrap_servers: str, admin: AdminClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SteppedRouter]:
    """26 queries on two lanes, in some transactions each; budgets that pay for some."""
    folder = tmp_path_factory.mktemp("explain")
    name = f"explain-{folder.name}-{np.random.default_rng().integers(10**9)}"
    made = SteppedRouter(bootstrap_servers, admin, name, folder, BUDGETS, horizon=10_000)
    made.plan()
    for start in range(0, 12, 4):
        for lane in (0, 1):
            made.send(lane, *(f"q{lane}-{i}" for i in range(start, start + 4)), carried=start == 4)
            made.step(lane)
        made.step(2)
        made.another_planner()
        made.plan()
    made.send(0, "again")
    made.step(0)
    made.send_raw(made.topics.queries, orjson.dumps({"id": "no prompt"}))
    made.send(0, "again")
    made.step(0)
    made.step(2)
    made.send(1, "late")
    made.plan()
    yield made
    made.close()
