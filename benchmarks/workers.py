"""Throughput of one worker and of two on the same backlog, each on a processor of its own.

    python -m benchmarks.workers --json docs/results/workers.json

Every worker runs on one processor (`taskset`). The broker runs on the processors that are left; if none is,
it shares the workers', and the estimator is one whose decisions cost far more than the broker's work. The
numbers of workers alternate, `--rounds` times; the median counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import orjson
import psutil
from confluent_kafka import Producer

from benchmarks import synthetic_queries
from benchmarks.result_file import report
from benchmarks.startup import ready_worker
from benchmarks.stream_run import Run, decided_per_second
from infra.broker.native import native_cluster

FIRST_QUERIES = 400
"""Queries routed before the clock runs, so that every lane has made its first decisions."""


def throughput(run: Run, workers: int, estimator: str, rows: int, queries: int) -> float:
    """Return queries/s of some workers on a backlog that arrives while they are idle."""
    topic, partitions = run.settings.topics.queries, run.settings.partitions
    producer = Producer({"bootstrap.servers": run.settings.brokers(), "linger.ms": 20})
    first = synthetic_queries.messages(FIRST_QUERIES, seed=1)
    values = synthetic_queries.messages(queries, seed=2)
    module = ["benchmarks.worker_process", "--estimator", estimator, "--rows", rows, "--stages"]
    stages = [run.folder / f"{run.name}-{number}.json" for number in range(workers)]
    with ExitStack() as stack:
        for number, (processor, file) in enumerate(zip(processors(), stages, strict=False)):
            pinned = ["taskset", "-c", str(processor)]
            worker = ready_worker(run, str(number), [*module, file], {}, pinned)
            run.process = stack.enter_context(worker)
        synthetic_queries.produce(producer, topic, first, partitions)
        run.wait_until_decided(FIRST_QUERIES, 120)
        synthetic_queries.produce(producer, topic, values, partitions)
        run.wait_until_decided(FIRST_QUERIES + queries, 600)
    for number, file in enumerate(stages):
        if not any(stage["queries"] for stage in orjson.loads(file.read_bytes()).values()):
            raise RuntimeError(f"worker {number} of {workers} decided nothing: the group was not balanced")
    return decided_per_second(run)


def processors() -> list[int]:
    """Return the numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--estimator", default="knn50", help="constant, or knn with a number [%(default)s]")
    parser.add_argument("--rows", type=int, default=16_000, help="of the history [%(default)s]")
    parser.add_argument("--queries", type=int, default=20_000, help="of the backlog [%(default)s]")
    parser.add_argument("--partitions", type=int, default=4, help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    arguments = parser.parse_args()
    if len(processors()) < 2:
        parser.error("two workers on processors of their own need two processors")
    speeds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder, native_cluster(1) as cluster:
        brokers = processors()[2:]
        for process in psutil.Process().children(recursive=True) if brokers else []:
            process.cpu_affinity(brokers)
        for round_ in range(arguments.rounds + 1):
            for workers, figures in speeds.items():
                run = Run(cluster.bootstrap_servers, Path(folder), arguments.partitions, 10**7)
                figure = throughput(run, workers, arguments.estimator, arguments.rows, arguments.queries)
                print(f"round {round_}: {workers} workers {figure:.0f}", file=sys.stderr, flush=True)
                if round_ > 0:  # the first one warmed the broker: its code is compiled as it runs
                    figures.append(round(figure, 1))
    one, two = median(speeds[1]), median(speeds[2])
    result = {
        "broker": "on the other processors" if brokers else "shares the workers' processors",
        "queries_per_second": {"1": one, "2": two},
        "two_over_one": round(two / one, 2),
        "rounds": {str(workers): figures for workers, figures in speeds.items()},
    }
    report("workers", arguments.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
