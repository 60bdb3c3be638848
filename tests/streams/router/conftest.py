"""Fixtures of the router's tests."""

import pytest

from tests.streams.router.memory_router import MemoryRouter


@pytest.fixture
def router() -> MemoryRouter:
    return MemoryRouter()
