"""Throughput and latency of the stream on native Apache Kafka, against bare loops in the same run.

    python -m benchmarks.stream --json docs/results/stream.json

Figures are ratios within one run: broker, worker and measuring share the machine's cores. Each configuration
is run `--rounds` times after one that is not counted, interleaved with the others; the median is kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Producer

from benchmarks import bare_loop, presets, startup, synthetic_queries
from benchmarks.latency import latency
from benchmarks.memory import decisions_per_second
from benchmarks.result_file import report
from benchmarks.stream_run import Run, throughput
from infra.broker.native import native_cluster
from streams.kafka.clients import ONE_REQUEST

ROUTERS = ("constant", "knn5", "knn50")
FLOORS: dict[str, dict[str, Any]] = {
    "floor_qps": {},
    "floor_threaded_qps": {"threads": True},
    "floor_large_batches_qps": {"options": ONE_REQUEST},
}
"""Arguments of the bare loops, by the name of their figure."""


def preset_rows(servers: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return queries/s and CPU time by stage for each preset, from raw prompts or with embeddings.

    As many of `presets.ROWS` as there are numbers of queries.
    """
    rows: dict[str, Any] = {}
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    counts = numbers(arguments.preset_queries)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--queries", type=int, default=150_000, help="backlog of a throughput run")
    parser.add_argument("--slow-queries", type=int, default=12_000, help="the same with neighbours")
    parser.add_argument("--rows", type=int, default=16_000, help="rows of the history")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rates", default="100,500,1000", help="queries/s of the latency runs")
    parser.add_argument(
        "--fast-rates", default="10,100,500,1000,2000", help="the same for preset fast on raw prompts"
    )
    parser.add_argument(
        "--partition-counts", default="4,64", help="of `queries`, for the transport by partitions"
    )
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
    report("stream", arguments.json, result)
    return 0


def numbers(text: str) -> list[int]:
    """Return whole numbers that commas separate."""
    return [int(number) for number in text.split(",")]


def transport_by_partitions(servers: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return queries/s of the stream with a constant estimate, by partitions of `queries`.

    The numbers of partitions alternate, `--rounds` times; the median counts.
    """
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    values = synthetic_queries.messages(arguments.queries)
    figures: dict[int, list[float]] = {count: [] for count in numbers(arguments.partition_counts)}
    for round_ in range(arguments.rounds):
        for count, speeds in figures.items():
            run = Run(servers, folder, count, 10**7)
            synthetic_queries.produce(producer, run.settings.topics.queries, values, count)
            speeds.append(throughput(run, "constant", 0, len(values))[0])
            print(f"round {round_}: {count} partitions {speeds[-1]:.0f}", file=sys.stderr, flush=True)
    return {str(count): round(median(speeds)) for count, speeds in figures.items()}


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
        for name, options in FLOORS.items():
            names = Run(servers, folder, arguments.partitions, 10**7).settings.topics
            topics = {
                "queries": run.settings.topics.queries,
                "out": names.llm(synthetic_queries.MODELS[0]),
                "ledger": names.ledger,
                "reservations": names.reservations,
            }
            figure = bare_loop.measure(servers, topics, arguments.partitions, len(values), **options)
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
    waits = latency(
        Run(servers, folder, arguments.partitions, 10**7),
        "knn5",
        arguments.rows,
        numbers(arguments.rates),
        arguments.seconds,
        synthetic_queries.messages,
    )
    prepared = presets.fitted(arguments.dataset, arguments.embeddings, "fast", folder, 1000)
    waits_fast = latency(
        Run(servers, folder, arguments.partitions, 10**7, presets.history_of(prepared)),
        "fast",
        0,
        numbers(arguments.fast_rates),
        arguments.seconds,
        lambda count, seed: presets.raw_messages(prepared, count, f"q{seed}-", unique=True),
    )
    started = [
        startup.start_of_worker(
            Run(servers, folder, arguments.partitions, 10**7, presets.history_of(prepared))
        )
        for _ in range(arguments.rounds)
    ]
    return {
        "floor_qps": round(middle["floor_qps"]),
        "floor_threaded_qps": round(middle["floor_threaded_qps"]),
        "floor_large_batches_qps": round(middle["floor_large_batches_qps"]),
        "transport_qps": round(middle["constant"]),
        "transport_ratio": round(middle["constant"] / middle["floor_qps"], 3),
        "router_qps": {name: round(middle[name]) for name in ROUTERS[1:]},
        "decision_qps_in_memory": {name: round(middle[f"memory_{name}"]) for name in ROUTERS},
        "router_ratio": {name: round(middle[name] / middle[f"memory_{name}"], 3) for name in ROUTERS[1:]},
        "presets": rows,
        "latency_ms": waits,
        "latency_fast_ms": waits_fast,
        "transport_qps_by_partitions": transport_by_partitions(servers, folder, arguments),
        "start_seconds": median(start["seconds"] for start in started),
        "rss_mb": median(start["rss_mb"] for start in started),
        "threads": median(start["threads"] for start in started),
        "help_seconds": median(startup.time_of_help() for _ in range(arguments.rounds)),
        "cpu_us_a_query_by_stage": {name: by_stage(snapshot) for name, snapshot in stages.items()},
        "rounds": figures,
    }


if __name__ == "__main__":
    raise SystemExit(main())
