"""Ten million queries through one worker: speed, memory and the lanes' records, by million.

    python -m benchmarks.long_run --json docs/results/long-run.json

Production, broker and worker share the machine's cores. Topics are emptied of what has been decided, so that
the disk does not fill; the producer repeats its messages.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer, TopicPartition

from benchmarks import synthetic_queries
from benchmarks.result_file import report
from benchmarks.stream_run import Run
from infra.broker.native import native_cluster
from streams.kafka.clients import reach_broker
from streams.ledger.view import LedgerView

DISTINCT = 20_000
"""Messages that the producer repeats."""

SETTLE_SECONDS = 30
"""Until a reservation expires. Without fleets that answer, all reservations of this time stay open."""

RETENTION = {"log.retention.check.interval.ms": "2000", "log.segment.bytes": str(64 * 2**20)}
"""Broker settings with which deleted records leave the disk soon."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--parts", type=int, default=10, help="[%(default)s]")
    parser.add_argument("--queries", type=int, default=1_000_000, help="of each part [%(default)s]")
    parser.add_argument("--partitions", type=int, default=4, help="[%(default)s]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, native_cluster(1, properties=RETENTION) as cluster:
        run = Run(cluster.bootstrap_servers, Path(folder), arguments.partitions, 10**9)
        run.variables["PORT_SETTLE_SECONDS"] = str(SETTLE_SECONDS)
        parts = measured(run, arguments.parts, arguments.queries)
    report("long_run", arguments.json, {"settle_seconds": SETTLE_SECONDS, "parts": parts})
    return 0


def measured(run: Run, parts: int, queries: int) -> list[dict[str, Any]]:
    """Return the figures of each part; the worker runs through all of them."""
    messages = synthetic_queries.messages(DISTINCT)
    producer = Producer({"bootstrap.servers": run.settings.brokers(), "linger.ms": 20})
    figures: list[dict[str, Any]] = []
    with run.worker("constant", 0):
        process = psutil.Process(run.process.pid)
        run.wait_until_decided(0, 60)
        for part in range(parts):
            began, before = time.monotonic(), run.cpu_seconds()
            for _ in range(queries // DISTINCT):
                synthetic_queries.produce(
                    producer, run.settings.topics.queries, messages, run.settings.partitions
                )
            run.wait_until_decided((part + 1) * (queries // DISTINCT) * DISTINCT, 600)
            seconds, cpu_seconds = time.monotonic() - began, run.cpu_seconds() - before
            figures.append(
                {
                    "queries_a_second": round(queries / seconds),
                    "cpu_us_a_query": round(1e6 * cpu_seconds / queries, 1),
                    "rss_mb": round(process.memory_info().rss / 1e6),
                    "record_bytes": largest_record(run),
                }
            )
            print(f"part {part}: {figures[-1]}", file=sys.stderr, flush=True)
            empty(run)
    return figures


def largest_record(run: Run) -> int:
    """Return the bytes of the largest record of a lane."""
    view = LedgerView(run.settings, overflow=False)
    view.start()
    try:
        while not view.ready:
            time.sleep(0.05)
        return max(len(record.encode()) for record in view.records().values())
    finally:
        view.stop()


def empty(run: Run) -> None:
    """Delete what has been decided from the input and from the LLMs' topics."""
    settings = run.settings
    outputs = [settings.topics.llm(slug) for slug in settings.read_catalogue().slugs]
    counts = dict.fromkeys(outputs, settings.llm_topic_partitions) | {
        settings.topics.queries: settings.partitions
    }
    # -1: up to the high watermark
    ends = [TopicPartition(name, number, -1) for name, count in counts.items() for number in range(count)]
    admin = reach_broker(settings)  # kept: its requests end with it
    for future in admin.delete_records(ends).values():
        future.result(30)


if __name__ == "__main__":
    raise SystemExit(main())
