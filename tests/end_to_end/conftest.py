"""A prepared folder for the whole run, and routers for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import Small, make_small

MakeRouter = Callable[..., Router]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """1,000 queries and a history of 1,500 rows, 6 LLMs."""
    return make_small(tmp_path_factory.mktemp("small"), "open_llm_v2", 1000, 1500, models=6)


@pytest.fixture
def router(
    bootstrap_servers: str,
    small: Small,
    tmp_path: Path,
    unique: Callable[[str], str],
    request: pytest.FixtureRequest,
) -> Iterator[MakeRouter]:
    """Create routers by `router(small, partitions=4, ...)`; they end with the test, and their logs stay."""
    routers: list[Router] = []

    def make(data: Small = small, **settings: object) -> Router:
        routers.append(Router(bootstrap_servers, data, tmp_path, unique("e2e"), **settings))
        return routers[-1]

    yield make
    for started in routers:
        started.close()
        started.delete_topics()
