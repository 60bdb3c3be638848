"""Gateway processes that tests may kill and freeze, behind a real worker and real fleets."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import orjson

from producers.evaluation.prepared_data import Prepared, budgeted_catalogue
from routing.datasets.demo import load_demo
from routing.embedding.bytes_embedder import fit_bytes
from routing.history.history import EmbeddedHistory
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import ROOT, wait_for
from tests.producers.fleet.chat_server import ChatServer, chat_server
from tests.producers.fleet.fleet_process import fleet

START_SECONDS = 60.0
KEYS = "keys.yaml"
POOR_USD = 1e-9
"""Budget of the last LLM, too small for any query."""


def bytes_embedded(folder: Path) -> Small:
    """Prepare the demo's history for the `bytes` embedder, so that a worker starts without a neural model."""
    data = load_demo()[0]
    embedder = fit_bytes(data.history.prompts, data.embeddings, 64)
    embedder.save(folder / "embedder")
    three = data.with_models(data.models[:3])
    vectors = embedder.embed(data.history.prompts).embeddings
    queries, rest = three.history.select(range(100)), three.history.select(range(100, 600))
    # every LLM is worth its price for every query
    rest = replace(rest, quality=0.5 + 0.5 * rest.quality)
    history = EmbeddedHistory(rest, vectors[100:600], embedder.identity)
    catalogue = budgeted_catalogue(queries, rest, 1000.0, "weighted")
    *rich, poor = catalogue.models
    catalogue = replace(catalogue, models=(*rich, replace(poor, budget_usd=POOR_USD)))
    prepared = Prepared(queries, vectors[:100], history, catalogue, {"dataset": "demo"})
    prepared.save(
        folder,
        {"PORT_HORIZON": "10000", "PORT_PRESET": "paper", "PORT_EMBEDDER": str(folder / "embedder")},
    )
    return Small("demo", folder, Prepared.load(folder))


class GatewayProcess:
    """One gateway on a free port.

    Parameters
    ----------
    variables : mapping
        Environment variables PORT_... and KAFKA_...
    log : Path
    arguments : sequence of str
    """

    def __init__(self, variables: Mapping[str, str], log: Path, arguments: Sequence[str] = ()) -> None:
        self.log = log
        others = {
            name: value for name, value in os.environ.items() if not name.startswith(("PORT_", "KAFKA_"))
        }
        with open(log, "wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "producers.gateway", "--port", "0", *arguments],
                cwd=ROOT,
                env={**others, **variables},
                stdout=file,
                stderr=file,
            )

    @property
    def url(self) -> str:
        """Base URL of the API, once the gateway listens."""
        return str(wait_for(self._url, START_SECONDS, f"the gateway of {self.log} listens"))

    def _url(self) -> str | None:
        assert self._process.poll() is None, self.log.read_text()
        return next((event["url"] for event in self.events("gateway_listening")), None)

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the log's events of one name."""
        for line in self.log.read_bytes().splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if isinstance(entry, dict) and entry.get("event") == name:
                    yield entry

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def client(self, **options: Any) -> openai.OpenAI:
        """Return OpenAI's client of this gateway."""
        return openai.OpenAI(**{"api_key": "none", "base_url": self.url, "max_retries": 0, **options})


class GatewayStack:
    """A router with a worker, a fleet per LLM, and gateways.

    Parameters
    ----------
    router : Router
    server : ChatServer
        Endpoint of all fleets.
    """

    def __init__(self, router: Router, server: ChatServer) -> None:
        self.router, self.server = router, server
        self.gateways: list[GatewayProcess] = []

    def start(self, *arguments: str) -> GatewayProcess:
        """Start a gateway; it ends with the stack."""
        log = self.router.folder / f"{self.router.name}-gateway-{len(self.gateways)}.log"
        self.gateways.append(GatewayProcess(self.router.variables, log, arguments))
        return self.gateways[-1]

    def start_with_keys(self) -> GatewayProcess:
        """Start a gateway that knows the keys `sk-search` and `sk-ads`."""
        return self.start("--keys", str(self.router.folder / KEYS))


@contextmanager
def running_stack(servers: str, folder: Path) -> Iterator[GatewayStack]:
    """Run a router with a worker, fleets and their endpoint for the length of a block.

    It has three LLMs, of which the last has no money.
    """
    (folder / KEYS).write_text("keys:\n  sk-search: search\n  sk-ads: ads\n")
    options = {"partitions": 2, "warmup": "history", "session_timeout_seconds": 10}
    name = f"door-{secrets.token_hex(4)}"
    router = Router(servers, bytes_embedded(folder / "demo"), folder, name, **options)
    try:
        with chat_server() as server, gateway_stack(router, server) as running:
            yield running
    finally:
        router.close()
        router.delete_topics()


@contextmanager
def gateway_stack(router: Router, server: ChatServer) -> Iterator[GatewayStack]:
    """Start a worker and a fleet per LLM for the length of a block; end the gateways that it starts."""
    router.start(ready=True)
    stack = GatewayStack(router, server)
    with ExitStack() as fleets:
        for model in router.catalogue.models:
            fleets.enter_context(fleet(router.settings, server, 60.0, 64, model.name))
        try:
            yield stack
        finally:
            for gateway in stack.gateways:
                gateway.stop()
