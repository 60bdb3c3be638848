"""Throughput and latency of the stream on native Apache Kafka, against bare loops in the same run.

    python -m benchmarks.stream --json docs/results/stream.json

Figures are ratios within one run: broker, worker and measuring share the machine's cores. Each configuration
is run `--rounds` times after one that is not counted, interleaved with the others; the median is kept.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
import yaml
from confluent_kafka import Producer, TopicPartition

from benchmarks import bare_loop, presets, synthetic_queries
from benchmarks.machine import describe
from benchmarks.memory import decisions_per_second
from benchmarks.result_file import save
from infra.broker.native import native_cluster
from routing.history.history import EmbeddedHistory
from streams.config.settings import Settings
from streams.kafka.bounded_clients import Consumer
from streams.kafka.clients import reach_broker, reader_config
from streams.kafka.follower import consume_available
from streams.kafka.reading import (
    read_to_end,
)
from streams.kafka.topics import create_topics, topic_specs
from streams.ledger.account_format import period_of
from streams.ledger.record import LedgerRecord
from streams.ledger.view import LedgerView

ROUTERS = ("constant", "knn5", "knn50")

WARM_RATE, WARM_SECONDS = 500, 20
"""Queries/s and seconds that come before latencies are measured."""


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
        command = [sys.executable, "-m", "benchmarks.worker_process", "--estimator", estimator]
        command += ["--rows", str(rows), "--stages", str(stages)]
        log = open(self.folder / f"{self.name}.log", "w")  # noqa: SIM115 - the process writes on
        process = subprocess.Popen(
            command, env=os.environ | self.variables, stdout=log, stderr=subprocess.STDOUT
        )
        self.process = process
        try:
            yield stages
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()

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
    return bare_loop.rate(times), orjson.loads(stages.read_bytes())


def preset_rows(servers: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return queries/s and CPU time by stage for each preset, from raw prompts or with embeddings.

    As many of `presets.ROWS` as there are numbers of queries.
    """
    rows: dict[str, Any] = {}
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    counts = [int(count) for count in arguments.preset_queries.split(",")]
    makers = {"raw": presets.raw_messages, "embedded": presets.embedded_messages}
    for (preset, form), count in zip(presets.ROWS, counts, strict=False):
        prepared = presets.fitted(arguments.dataset, arguments.embeddings, preset, folder, 1000)
        run = Run(servers, folder, arguments.partitions, 10**7, presets.history_of(prepared))
        values = makers[form](prepared, count)
        synthetic_queries.produce(producer, run.settings.topics.queries, values, arguments.partitions)
        figure, stages = throughput(run, preset, 0, count)
        name = preset if form == "raw" else f"{preset}-{form}"
        rows[name] = {f"{form}_qps": round(figure, 1), "queries": count, "cpu_us": by_stage(stages)}
        print(f"preset {preset}: {figure:.0f} {form} queries/s", file=sys.stderr, flush=True)
    if "fast" in rows:
        rows["fast_over_best"] = round(rows["fast"]["raw_qps"] / rows["best"]["raw_qps"], 1)
    return rows


def by_stage(stages: dict[str, Any]) -> dict[str, float]:
    """Return microseconds of CPU time per query, by stage."""
    return {
        stage: round(1e6 * sums["cpu_seconds"] / max(sums["queries"], 1), 2) for stage, sums in stages.items()
    }


def latency(run: Run, estimator: str, rows: int, rates: list[int], seconds: float) -> dict[str, Any]:
    """Return milliseconds from production to committed read at several rates."""
    settings, results = run.settings, {}
    producer = Producer({"bootstrap.servers": settings.brokers(), "linger.ms": 0})
    warm = synthetic_queries.messages(200, seed=7)
    with run.worker(estimator, rows):
        synthetic_queries.produce(producer, settings.topics.queries, warm, settings.partitions)
        run.wait_until_decided(len(warm), 300)
        # the broker compiles what it runs often: before that a transaction takes it four times as long
        paced(run, producer, WARM_RATE, WARM_RATE * WARM_SECONDS, 99)
        for number, rate in enumerate(rates):
            results[str(rate)] = paced(run, producer, rate, int(rate * seconds), 100 + number)
    return results


def paced(run: Run, producer: Producer, rate: int, count: int, seed: int) -> dict[str, float]:
    """Return percentiles at one rate, without the first second."""
    settings = run.settings
    names = [settings.topics.llm(slug) for slug in settings.read_catalogue().slugs]
    names.append(settings.topics.unserved)
    consumer = Consumer(reader_config(settings) | {"fetch.wait.max.ms": 25, "enable.partition.eof": False})
    ends = []
    for name in names:
        for partition in range(settings.partitions):
            end = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)[1]
            ends.append(TopicPartition(name, partition, end))
    consumer.assign(ends)
    values = synthetic_queries.messages(count, seed)
    sent: dict[str, float] = {}
    arrived: dict[str, float] = {}

    def collect() -> None:
        deadline = time.monotonic() + count / rate + 60
        while len(arrived) < count and time.monotonic() < deadline:
            for message in consume_available(consumer, 500, 0.1):
                if message.error() is None:
                    arrived[orjson.loads(message.value() or b"")["id"]] = time.time()

    collector = threading.Thread(target=collect, name="collect")
    collector.start()
    began = time.time()
    for i, moment in enumerate(
        synthetic_queries.paced(producer, settings.topics.queries, values, settings.partitions, rate)
    ):
        sent[f"q{seed}-{i}"] = moment
    collector.join()
    consumer.close()
    if len(arrived) < count:
        raise TimeoutError(f"{len(arrived)} of {count} queries at {rate}/s came within 60 s")
    waits = [1000 * (arrived[key] - moment) for key, moment in sent.items() if moment > began + 1]
    return {f"p{q}": round(float(np.percentile(waits, q)), 1) for q in (50, 95, 99)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--queries", type=int, default=150_000, help="backlog of a throughput run")
    parser.add_argument("--slow-queries", type=int, default=12_000, help="the same with neighbours")
    parser.add_argument("--rows", type=int, default=16_000, help="rows of the history")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rates", default="100,500,1000", help="queries/s of the latency runs")
    parser.add_argument("--dataset", default="demo", help="real prompts and history of the presets' rows")
    parser.add_argument("--embeddings", type=Path, help="of that data set's rows")
    parser.add_argument(
        "--preset-queries",
        default="600,600,20000,5000,5000,20000",
        help="raw for paper, best, fast, static; embedded for best, fast; or the first ones",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each latency run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, native_cluster(1) as cluster:
        result = measure(cluster.bootstrap_servers, Path(folder), arguments)
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    save(arguments.json, result)
    return 0


def measure(servers: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, list[float]] = {}
    stages: dict[str, Any] = {}
    for round_ in range(arguments.rounds + 1):
        if round_ == 1:
            figures.clear()  # the round before warmed the broker: its code is compiled as it runs
        run = Run(servers, folder, arguments.partitions, 10**7)
        producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
        values = synthetic_queries.messages(arguments.queries)
        synthetic_queries.produce(producer, run.settings.topics.queries, values, arguments.partitions)
        for threads in (False, True):
            names = Run(servers, folder, arguments.partitions, 10**7).settings.topics
            topics = {
                "queries": run.settings.topics.queries,
                "out": names.llm(synthetic_queries.MODELS[0]),
                "ledger": names.ledger,
                "reservations": names.reservations,
            }
            name = "floor_threaded_qps" if threads else "floor_qps"
            figure = bare_loop.measure(servers, topics, arguments.partitions, len(values), threads=threads)
            figures.setdefault(name, []).append(figure)
            print(f"round {round_}: {name} {figure:.0f}", file=sys.stderr, flush=True)
        for estimator in ROUTERS:
            if estimator != "constant":
                run = Run(servers, folder, arguments.partitions, 10**7)
                values = synthetic_queries.messages(arguments.slow_queries)
                synthetic_queries.produce(producer, run.settings.topics.queries, values, arguments.partitions)
            figure, stages[estimator] = throughput(run, estimator, arguments.rows, len(values))
            figures.setdefault(estimator, []).append(figure)
            print(f"round {round_}: {estimator} {figure:.0f}", file=sys.stderr, flush=True)
        for estimator in ROUTERS:
            figure = decisions_per_second(estimator, arguments.rows, 8000)
            figures.setdefault(f"memory_{estimator}", []).append(figure)
    rows = preset_rows(servers, folder, arguments)
    middle = {name: median(values) for name, values in figures.items()}
    rates = [int(rate) for rate in arguments.rates.split(",")]
    waits = latency(
        Run(servers, folder, arguments.partitions, 10**7), "knn5", arguments.rows, rates, arguments.seconds
    )
    return {
        "command": "python -m benchmarks.stream " + " ".join(sys.argv[1:]),
        "machine": describe(),
        "floor_qps": round(middle["floor_qps"]),
        "floor_threaded_qps": round(middle["floor_threaded_qps"]),
        "transport_qps": round(middle["constant"]),
        "transport_ratio": round(middle["constant"] / middle["floor_qps"], 3),
        "router_qps": {name: round(middle[name]) for name in ROUTERS[1:]},
        "decision_qps_in_memory": {name: round(middle[f"memory_{name}"]) for name in ROUTERS},
        "router_ratio": {name: round(middle[name] / middle[f"memory_{name}"], 3) for name in ROUTERS[1:]},
        "presets": rows,
        "latency_ms": waits,
        "cpu_us_a_query_by_stage": {name: by_stage(snapshot) for name, snapshot in stages.items()},
        "rounds": figures,
    }


if __name__ == "__main__":
    raise SystemExit(main())
