"""One configuration of the stream under measurement: its topics, its settings, and its worker process."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import yaml

from benchmarks import bare_loop, synthetic_queries
from benchmarks.program import running
from routing.history.history import EmbeddedHistory
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker, reader_config
from streams.kafka.reading import read_to_end
from streams.kafka.topics import create_topics, topic_specs
from streams.ledger.account_format import period_of
from streams.ledger.record import LedgerRecord
from streams.ledger.view import LedgerView


class Run:
    """Topics, settings and a worker of one configuration."""

    def __init__(
        self,
        servers: str,
        folder: Path,
        partitions: int,
        horizon: int,
        history: Path | None = None,
        catalogue: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = "b" + uuid.uuid4().hex[:8]
        self.folder = folder
        names = synthetic_queries.MODELS if history is None else EmbeddedHistory.load(history).models
        rich = {"models": [{"name": name, "budget_usd": 1000.0} for name in names]}
        path = folder / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(rich if catalogue is None else dict(catalogue)))
        self.variables = {
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "PORT_APP_ID": self.name,
            "PORT_TOPIC_PREFIX": self.name + ".",
            "PORT_CATALOGUE": str(path),
            "PORT_PARTITIONS": str(partitions),
            "PORT_HORIZON": str(horizon),
            "PORT_WARMUP": "history",
            "PORT_SOLVER": "newton",
            "PORT_DATA_DIR": str(folder / "data"),
            "PORT_OVERFLOW": "off",
        }
        if history is not None:
            self.variables["PORT_HISTORY"] = str(history)
        self.settings = Settings(
            bootstrap_servers=servers,
            app_id=self.name,
            topic_prefix=self.name + ".",
            catalogue=path,
            partitions=partitions,
            horizon=horizon,
            overflow="off",
        )
        specs = topic_specs(self.settings, self.settings.read_catalogue())
        create_topics(reach_broker(self.settings), specs)

    @contextmanager
    def worker(self, estimator: str, rows: int) -> Iterator[Path]:
        """A worker process; the path is where it writes its stages when it ends."""
        stages = self.folder / f"{self.name}-stages.json"
        module = ["benchmarks.worker_process", "--estimator", estimator, "--rows", rows, "--stages", stages]
        with running(module, os.environ | self.variables, self.folder / f"{self.name}.log") as self.process:
            yield stages

    def cpu_seconds(self) -> float:
        """Return the processor time of the worker since its start."""
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    def wait_until_decided(self, total: int, seconds: float) -> None:
        """Wait until the ledgers count this number of queries; reading them costs almost nothing."""
        view = LedgerView(self.settings, overflow=False)
        view.start()
        deadline = time.monotonic() + seconds
        try:
            while sum(record.account.arrived for record in view.records().values()) < total:
                if (status := self.process.poll()) is not None:
                    log = (self.folder / f"{self.name}.log").read_text()
                    raise RuntimeError(f"the worker ended with {status}: {log}")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{total} queries were not decided within {seconds:.0f} s")
                time.sleep(0.1)
        finally:
            view.stop()


def throughput(run: Run, estimator: str, rows: int, total: int) -> tuple[float, dict[str, Any]]:
    """Return queries/s of a worker on a backlog, and its stages."""
    with run.worker(estimator, rows) as stages:
        run.wait_until_decided(total, 600)
    return decided_per_second(run), orjson.loads(stages.read_bytes())


def decided_per_second(run: Run) -> float:
    """Return queries/s by the times of the lanes' records, without the first queries."""
    times = []
    for partition in range(run.settings.partitions):
        before = 0
        for message in read_to_end(reader_config(run.settings), run.settings.topics.ledger, partition):
            if period_of(message.key()) is not None:
                continue
            ledger = LedgerRecord.decode(message.value() or b"")
            if (new := ledger.account.arrived - before) > 0:
                times.append((ledger.written_at, new))
                before = ledger.account.arrived
    return bare_loop.rate(times)
