"""Lanes that retry without a pause."""

import pytest

from streams.lanes import lanes


@pytest.fixture(autouse=True)
def retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RETRY_SECONDS", 0)
