"""Budgets shared over partitions on Kafka: loss against a single partition, and waiting time.

    python -m benchmarks.overflow --dataset open_llm_v2.parquet --embeddings open_llm_v2.minilm.f16.npy \
        --json docs/results/overflow-stream.json

A whole period of N queries, once at each rate and once all at the same moment, over P partitions and over
one, on native Apache Kafka. Performance is by the accounting rule, with true qualities and costs; no outcomes
are reported, so that nothing but the sharing differs. Every run is checked by `streams.audit.check`.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.machine import describe
from benchmarks.replay import run as run_program
from benchmarks.replay import worker
from benchmarks.result_file import save
from infra.broker.native import native_cluster
from producers.evaluation.accounting import locate_queries, score_replay
from producers.evaluation.budgets import budgets_of
from producers.evaluation.prepared_data import Prepared
from producers.evaluation.queries import ReplayQueries, select_queries
from producers.query_producer import QueryProducer, encode_query
from producers.result_collector import CollectedResult, ResultCollector
from routing.accounting import account_for
from routing.embedding.query_batch import QueryBatch
from routing.estimators.neighbours import Neighbours
from routing.planning.schedule import PlanningSettings
from routing.simulation import simulate
from streams.audit.check import check
from streams.audit.topic_records import KafkaTopicSource
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker, reader_config
from streams.kafka.scanner import Scanner
from streams.kafka.topics import create_topics, topic_specs

BURST = "burst"
ROUTING = {
    "preset": "paper",
    "k": 50,
    "weighting": "similarity",
    "cost_estimate": "per-length",
    "warmup": "history",
    "resolve": "every",
    "solver": "newton",
    "embedder_loads": "first",
}
PERCENTILES = (50, 95, 99)
FIRST_SECONDS = 1.0
"""The waits of queries sent before this at a steady rate do not count: threads and topics warm up."""
SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Stream:
    """One run: a period with a number of partitions.

    Parameters
    ----------
    traffic : float or None
        Queries a second; None: all at once.
    partitions, workers : int
    """

    traffic: float | None
    partitions: int
    workers: int

    @property
    def label(self) -> str:
        """Name of its traffic."""
        return BURST if self.traffic is None else f"{self.traffic:g}/s"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    top.add_argument("--dataset", default="demo", help="data set of answered queries [%(default)s]")
    top.add_argument("--embeddings", type=Path, help="of its rows")
    top.add_argument("--queries", type=int, default=4000, help="N, a period [%(default)s]")
    top.add_argument("--partitions", type=int, default=16, help="P, against one [%(default)s]")
    top.add_argument("--rates", default="250,1000", help="queries/s of steady traffic [%(default)s]")
    top.add_argument("--workers", default="1,2", help="processes [%(default)s]")
    top.add_argument("--rounds", type=int, default=3, help="of everything [%(default)s]")
    top.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the worker")
    top.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="a broker that runs; else a native one")
    top.add_argument("--json", type=Path, help="write the figures there")
    return top


def main() -> int:
    """Run all configurations; return 1 if an invariant is violated."""
    options = parser().parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = options.bootstrap_servers or stack.enter_context(native_cluster()).bootstrap_servers
        prepared = prepare(options, folder)
        replay_queries = select_queries(prepared.queries, "file")
        rows = [
            row
            for number in range(options.rounds)
            for stream in streams(options)
            for row in [
                {"round": number + 1, **run(options, stream, prepared, replay_queries, folder, servers)}
            ]
        ]
        result = {
            "command": "python -m benchmarks.overflow " + " ".join(published_arguments(sys.argv[1:])),
            "machine": describe(),
            "data": prepared.origin,
            "settings": ROUTING | dict(pair.split("=", 1) for pair in options.set),
            "in_memory": in_memory(prepared, replay_queries),
            "summary": summarised(rows),
            "rows": rows,
        }
    print(orjson.dumps({**result, "rows": len(rows)}, option=orjson.OPT_INDENT_2).decode())
    save(options.json, result)
    return int(any(not row["fine"] for row in rows))


def published_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments for the result file: file names without folders, and no broker address."""
    words = [Path(word).name if word.startswith(("/", ".")) else word for word in arguments]
    if "--bootstrap-servers" in words:
        at = words.index("--bootstrap-servers")
        del words[at : at + 2]
    return words


def streams(options: argparse.Namespace) -> list[Stream]:
    """Return all runs of a round, the reference with one partition first."""
    rates: list[float | None] = [float(rate) for rate in options.rates.split(",") if rate]
    return [
        Stream(rate, partitions, workers)
        for rate in [*rates, None]
        for partitions, workers in [
            (1, 1),
            *((options.partitions, int(w)) for w in options.workers.split(",")),
        ]
    ]


def prepare(options: argparse.Namespace, folder: Path) -> Prepared:
    """Prepare queries, history and budgets with `producers.prepare`."""
    out = folder / "prepared"
    command = ["producers.prepare", "--dataset", options.dataset, "--queries", options.queries, "--out", out]
    command += ["--preset", ROUTING["preset"], "--split", "weighted"]
    if options.embeddings is not None:
        command += ["--embeddings", options.embeddings]
    run_program(command, dict(os.environ))
    return Prepared.load(out)


def run(
    options: argparse.Namespace,
    stream: Stream,
    prepared: Prepared,
    replay_queries: ReplayQueries,
    folder: Path,
    servers: str,
) -> dict[str, Any]:
    """Run one period on its own topics."""
    name = f"overflow-{secrets.token_hex(4)}"
    values = {
        **ROUTING,
        "partitions": stream.partitions,
        "horizon": len(replay_queries),
        "topic_prefix": f"{name}.",
        "app_id": name,
        "data_dir": folder / "worker",
        "catalogue": folder / "prepared" / "catalogue.yaml",
        "history": folder / "prepared" / "history",
        **dict(pair.split("=", 1) for pair in options.set),
    }
    settings = Settings(bootstrap_servers=servers, **values)
    catalogue, admin = settings.read_catalogue(), reach_broker(settings)
    create_topics(admin, topic_specs(settings, catalogue))
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **{f"PORT_{key.upper()}": str(value) for key, value in values.items()},
    }
    load = QueryProducer(settings, stream.partitions, stream.traffic)
    with ExitStack() as stack:
        for number in range(stream.workers):
            log = folder / f"{name}-{number}.log"
            stack.enter_context(worker(["streams", "worker"], environment, log))
        time.sleep(2.0)  # partitions come to rest, the first plan is there
        collector = ResultCollector(settings, catalogue, admin, load.positions)
        stack.callback(collector.stop)
        messages = list(encoded(replay_queries, prepared))
        began = time.time()
        load.run(messages)
        collector.stop_after(replay_queries.ids)
        while collector.running and time.monotonic() - collector.newest < SILENCE_SECONDS:
            time.sleep(0.05)
    places = locate_queries(replay_queries.ids, collector.results)
    score = score_replay(places.first, replay_queries, budgets_of(catalogue, prepared.history.history))
    with Scanner(reader_config(settings, f"{name}-check")) as scanner:
        verdict = check(KafkaTopicSource(scanner, settings.app_id), settings.topics, complete=True)
    row = {
        "traffic": stream.label,
        "partitions": stream.partitions,
        "workers": stream.workers,
        "performance": score.outcome.performance,
        "served": places.served,
        "lost_to_true_costs": score.lost,
        "reserved_share": float(score.reserved.sum() / score.limits.sum()),
        "through_overflow": sum(came_by_overflow(one) for one in places.first) / len(replay_queries),
        "seconds": max(one.read_at for one in places.first) - began,
        "latency_ms": waits(places.first, load, began if stream.traffic is None else began + FIRST_SECONDS),
        "fine": verdict.fine and not (places.missing or places.twice or score.over_budget),
    }
    print(orjson.dumps(row).decode(), file=sys.stderr, flush=True)
    if not row["fine"]:
        print(verdict.text(), file=sys.stderr, flush=True)
    topics = [spec.name for spec in topic_specs(settings, catalogue)]
    for future in admin.delete_topics(topics).values():
        future.result(30)
    return row


def came_by_overflow(result: CollectedResult) -> bool:
    """Return True if the overflow lane decided the query."""
    return result.routing is not None and result.routing.source is not None


def encoded(replay_queries: ReplayQueries, prepared: Prepared) -> Sequence[tuple[str, bytes]]:
    """Yield the queries as messages with their embeddings."""
    vectors = vectors_of(prepared)
    return [
        (identity, encode_query(identity, replay_queries.prompts[number], vectors[row]))
        for number, (identity, row) in enumerate(zip(replay_queries.ids, replay_queries.rows, strict=True))
    ]


def vectors_of(prepared: Prepared) -> NDArray[np.float32]:
    """Return the embeddings of the prepared queries, [rows, d]."""
    if prepared.embeddings is None:
        raise ValueError("embeddings: the queries have none; give --embeddings")
    return prepared.embeddings


def waits(
    arrivals: Sequence[CollectedResult], load: QueryProducer, since: float
) -> dict[str, dict[str, float]]:
    """Return milliseconds from production to committed read, direct and through the overflow lane."""
    latencies: dict[str, list[float]] = {"direct": [], "overflow": []}
    for arrival in arrivals:
        produced = load.produced_at[arrival.id]
        if produced >= since:
            way = "overflow" if came_by_overflow(arrival) else "direct"
            latencies[way].append(1000 * (arrival.read_at - produced))
    return {
        way: {f"p{q}": round(float(np.percentile(times, q)), 1) for q in PERCENTILES}
        for way, times in latencies.items()
        if times
    }


def in_memory(prepared: Prepared, replay_queries: ReplayQueries) -> dict[str, float]:
    """Return the score of one partition in memory, where plans are available as soon as they are due."""
    estimator = Neighbours(prepared.history, k=50, weights="similarity", cost="per-length")
    queries = prepared.queries
    estimates = estimator.estimate(QueryBatch(list(queries.prompts), vectors_of(prepared)))
    budgets = prepared.catalogue.budget_per_llm([], [])
    planning = PlanningSettings(
        horizon=len(replay_queries), warmup="history", resolve="every", solver="newton"
    )
    own = estimator.leave_one_out()
    result = simulate(
        estimates.rows(replay_queries.rows), budgets, planning, models=tuple(queries.models), history=own
    )
    return {
        "performance": account_for(
            result.choice, replay_queries.quality, replay_queries.cost, budgets
        ).performance
    }


def summarised(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the rounds; losses in per cent of one partition under the same traffic in the same round."""
    single = {(row["round"], row["traffic"]): row["performance"] for row in rows if row["partitions"] == 1}
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["traffic"], row["partitions"], row["workers"]), []).append(row)
    summary = []
    for (traffic, partitions, workers), group in groups.items():
        losses = [100 * (1 - row["performance"] / single[row["round"], traffic]) for row in group]
        summary.append(
            {
                "traffic": traffic,
                "partitions": partitions,
                "workers": workers,
                "performance": round(mean(row["performance"] for row in group), 2),
                "loss_percent": round(mean(losses), 2),
                "worst_loss_percent": round(max(losses), 2),
                "through_overflow_percent": round(100 * mean(row["through_overflow"] for row in group), 1),
                "seconds": round(mean(row["seconds"] for row in group), 2),
                "latency_ms": middle([row["latency_ms"] for row in group]),
            }
        )
    return summary


def middle(latencies: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The median over the rounds of each percentile."""
    ways = sorted({way for one in latencies for way in one})
    return {
        way: {
            q: round(median(one[way][q] for one in latencies if way in one), 1)
            for q in [f"p{p}" for p in PERCENTILES]
        }
        for way in ways
    }


if __name__ == "__main__":
    raise SystemExit(main())
