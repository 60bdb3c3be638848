"""Workers at a distance from the brokers: latency and speed of each, and three of them together.

    python -m benchmarks.distance --json docs/results/distance.json

Every worker runs in a network namespace of its own (`unshare`, `ip`), whose connections to the broker take
the delay in each direction (`benchmarks.distant_host`). Producer and reader are beside the broker.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer

from benchmarks import synthetic_queries
from benchmarks.distant_host import Gate
from benchmarks.failover import messages_of
from benchmarks.latency import paced
from benchmarks.program import running
from benchmarks.result_file import report
from benchmarks.stream_run import Run
from infra.broker.native import native_cluster

HORIZON = 10**7


@contextmanager
def distant_worker(run: Run, gate: Path, delay_ms: float, name: str) -> Iterator[None]:
    """Run a worker on a host of its own for the length of a block; `name` is part of its files' names."""
    port = run.settings.brokers().rsplit(":", 1)[1]
    own = run.folder / f"{run.name}{name}"
    host = ["benchmarks.distant_host", "--socket", gate, "--ports", port, "--delay-ms", delay_ms, "--"]
    worker = [sys.executable, "-m", "benchmarks.worker_process", "--estimator", "constant"]
    program = [*host, *worker, "--stages", f"{own}.json"]
    log, environment = own.with_suffix(".log"), os.environ | run.variables
    with running(program, environment, log, within=["unshare", "-r", "-n"]) as run.process:
        yield


def measured(run: Run, gate: Path, delay_ms: float, queries: int, seconds: float) -> dict[str, float]:
    """Return queries/s on a backlog, and milliseconds from production to committed read at 100 queries/s."""
    producer = Producer({"bootstrap.servers": run.settings.brokers(), "linger.ms": 5})
    topic, partitions = run.settings.topics.queries, run.settings.partitions
    with distant_worker(run, gate, delay_ms, ""):
        synthetic_queries.produce(producer, topic, synthetic_queries.messages(200, seed=7), partitions)
        run.wait_until_decided(200, 120)
        waits = paced(run, producer, 100, synthetic_queries.messages(int(100 * seconds), 8), 8)
        backlog = synthetic_queries.messages(queries, seed=9)
        began = time.monotonic()
        synthetic_queries.produce(producer, topic, backlog, partitions)
        run.wait_until_decided(200 + int(100 * seconds) + queries, 600)
        return {"queries_a_second": round(queries / (time.monotonic() - began))} | waits


def together(run: Run, gate: Path, delays: list[float], queries: int) -> dict[str, Any]:
    """Return what three workers at different distances make of a backlog."""
    producer = Producer({"bootstrap.servers": run.settings.brokers(), "linger.ms": 5})
    with ExitStack() as hosts:
        for number, delay in enumerate(delays):
            hosts.enter_context(distant_worker(run, gate, delay, f"-{number}" if number else ""))
        began = time.monotonic()
        messages = synthetic_queries.messages(queries, seed=10)
        synthetic_queries.produce(producer, run.settings.topics.queries, messages, run.settings.partitions)
        run.wait_until_decided(queries, 600)
        seconds = time.monotonic() - began
    routed = [
        orjson.loads(message.value() or b"")["id"]
        for slug in run.settings.read_catalogue().slugs
        for message in messages_of(run, run.settings.topics.llm(slug), run.settings.llm_topic_partitions)
    ]
    return {
        "delays_ms": delays,
        "seconds_with_start": round(seconds, 1),
        "missing": queries - len(set(routed)),
        "twice": len(routed) - len(set(routed)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--delays", default="0,1,10,50", help="milliseconds each way [%(default)s]")
    parser.add_argument("--queries", type=int, default=100_000, help="of a backlog [%(default)s]")
    parser.add_argument("--seconds", type=float, default=10.0, help="at 100 queries/s [%(default)s]")
    parser.add_argument(
        "--partitions", type=int, default=4, help="of one worker; three have three times as many"
    )
    arguments = parser.parse_args()
    delays = [float(delay) for delay in arguments.delays.split(",")]
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, native_cluster(1) as cluster:
        socket = Path(name) / "gate"
        gate = Gate(socket)
        for delay in [delays[0], *delays]:  # the first run warms the broker
            run = Run(cluster.bootstrap_servers, Path(name), arguments.partitions, HORIZON)
            figures[f"{delay:g}"] = measured(run, socket, delay, arguments.queries, arguments.seconds)
            print(f"{delay:g} ms: {figures[f'{delay:g}']}", file=sys.stderr, flush=True)
        run = Run(cluster.bootstrap_servers, Path(name), 3 * arguments.partitions, HORIZON)
        three = together(run, socket, delays[-3:], arguments.queries)
        gate.close()
    result = {"one worker, by delay of each way in ms": figures, "three workers": three}
    report("distance", arguments.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
