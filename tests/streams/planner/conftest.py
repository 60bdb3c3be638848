"""Fixtures of the planner's tests."""

import pytest

from tests.streams.planner.memory_cluster import MemoryCluster


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()
