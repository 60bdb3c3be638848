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
    router = SteppedRouter(bootstrap_servers, admin, name, folder, BUDGETS, horizon=10_000)
    router.plan()
    for start in range(0, 12, 4):
        for lane in (0, 1):
            router.send(lane, *(f"q{lane}-{i}" for i in range(start, start + 4)), carried=start == 4)
            router.step(lane)
        router.step(2)
        router.another_planner()
        router.plan()
    router.send(0, "again")
    router.step(0)
    router.send_raw(router.topics.queries, orjson.dumps({"id": "no prompt"}))
    router.send(0, "again")
    router.step(0)
    router.step(2)
    router.send(1, "late")
    router.plan()
    yield router
    router.close()
