"""A chat server and a router for batch tests."""

from pathlib import Path

import pytest

from tests.producers.conftest import RouterStarter
from tests.producers.fleet.chat_server import chat_server


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


@pytest.fixture
def start_router(tmp_path: Path, stream: RouterStarter, monkeypatch: pytest.MonkeyPatch) -> RouterStarter:
    """One LLM; every tenth query is unserved, and those that ask for it are refused."""
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [vendor/llm]\n")
    monkeypatch.setenv("PORT_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    return stream
