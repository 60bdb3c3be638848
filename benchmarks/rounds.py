"""Latency and processor time with a transaction per lane and with one for all lanes, in the same run.

    python -m benchmarks.rounds --json docs/results/rounds.json

The broker, the worker and the measurement share the machine's cores, so only ratios within one run count. The
modes are measured in turn, `--rounds` times, and the median is kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import psutil
from confluent_kafka import Producer

from benchmarks import synthetic_queries
from benchmarks.latency import paced
from benchmarks.machine import describe
from benchmarks.result_file import save
from benchmarks.stream_run import Run
from infra.broker.native import native_cluster

MODES = ("overlapping", "worker")

WARM_RATE, WARM_SECONDS = 200, 8
"""Queries/s and seconds before the measurement of each worker."""


def measured(run: Run, estimator: str, rows: int, rates: list[int], seconds: float) -> dict[str, float]:
    """Return milliseconds from production to committed read, and processor time a query, by rate."""
    settings = run.settings
    figures: dict[str, float] = {}
    producer = Producer({"bootstrap.servers": settings.brokers(), "linger.ms": 0})
    first = synthetic_queries.messages(200, seed=7)
    with run.worker(estimator, rows):
        synthetic_queries.produce(producer, settings.topics.queries, first, settings.partitions)
        run.wait_until_decided(len(first), 300)
        paced(run, producer, WARM_RATE, synthetic_queries.messages(WARM_RATE * WARM_SECONDS, 99), 99)
        process = psutil.Process(run.process.pid)
        for number, rate in enumerate(rates):
            count, before = int(rate * seconds), process.cpu_times()
            waits = paced(run, producer, rate, synthetic_queries.messages(count, 100 + number), 100 + number)
            after = process.cpu_times()
            cpu_seconds = after.user + after.system - before.user - before.system
            figures |= {f"{rate}/s {name} ms": value for name, value in waits.items()}
            figures[f"{rate}/s cpu us a query"] = round(1e6 * cpu_seconds / count)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rates", default="100,500", help="queries/s [%(default)s]")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each rate [%(default)s]")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--estimator", default="constant", help="as of `benchmarks.worker_process`")
    parser.add_argument("--rows", type=int, default=16_000, help="rows of the history")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rates = [int(rate) for rate in arguments.rates.split(",")]
    figures: dict[str, dict[str, list[float]]] = {mode: defaultdict(list) for mode in MODES}
    with tempfile.TemporaryDirectory() as folder, native_cluster(1) as cluster:
        for round_ in range(arguments.rounds):
            for mode in MODES:
                run = Run(cluster.bootstrap_servers, Path(folder), arguments.partitions, 10**7)
                run.variables["PORT_TRANSACTIONS"] = mode
                result_of_round = measured(run, arguments.estimator, arguments.rows, rates, arguments.seconds)
                for name, value in result_of_round.items():
                    figures[mode][name].append(value)
                print(f"round {round_}: {mode} {result_of_round}", file=sys.stderr, flush=True)
    middle = {mode: {name: median(values) for name, values in by.items()} for mode, by in figures.items()}
    names = list(middle["worker"])
    result: dict[str, Any] = {
        "command": "python -m benchmarks.rounds " + " ".join(sys.argv[1:]),
        "machine": describe(),
        "medians": middle,
        "worker over overlapping": {
            name: round(middle["worker"][name] / middle["overlapping"][name], 2) for name in names
        },
        "rounds": figures,
    }
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    save(arguments.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
