"""From the measured cost of one worker to a million queries per second: measure, simulate and extrapolate.

    python -m benchmarks.scaling --json docs/results/scaling.json

Needs Java and Maven for the worker on native Kafka (`--no-broker` leaves that part out). With `--dataset` and
`--embeddings` the simulations rest on that data set; else on the demo's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import orjson
from confluent_kafka import Producer

from benchmarks import cost_breakdown, synthetic_queries
from benchmarks.capacity import Choice, Costs, fitted_line, plan_capacity
from benchmarks.machine import describe
from benchmarks.result_file import save
from infra.broker.native import native_cluster
from routing.accounting import account_for
from routing.budgets.splits import split_budget, total_budget
from routing.datasets.demo import load_demo, load_demo_vectors
from routing.datasets.load import load_dataset
from routing.datasets.split import split_rows
from routing.embedding.query_batch import (
    QueryBatch,
)
from routing.embedding.unit_vectors import normalised
from routing.estimators.base import (
    Estimates,
)
from routing.estimators.neighbours import Neighbours
from routing.history.history import EmbeddedHistory
from routing.planning.schedule import PlanningSettings
from routing.simulation import simulate
from streams.kafka.clients import reader_config
from streams.kafka.reading import (
    read_to_end,
)
from streams.ledger.account_format import period_of

SAMPLES, MANY_SAMPLES = 200, 1600
Resolve = Literal["once", "geometric"]
RATES = (1_000, 10_000, 100_000, 1_000_000)


# ---- one worker ------------------------------------------------------------------------------------------


def worker_costs(queries: int, rate: float, seconds: float) -> dict[str, float]:
    """Return a worker's CPU time per query and per transaction, from a high and a low rate."""
    from benchmarks.stream_run import Run

    with tempfile.TemporaryDirectory() as name, native_cluster(1) as cluster:
        run = Run(cluster.bootstrap_servers, Path(name), 4, 10**8)
        producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 20})
        topic = run.settings.topics.queries
        with run.worker("constant", 64):
            synthetic_queries.produce(producer, topic, synthetic_queries.messages(400, seed=7), 4)
            run.wait_until_decided(400, 300)
            used = run.cpu_seconds()
            time.sleep(seconds / 2)
            idle = (run.cpu_seconds() - used) / (seconds / 2)
            before, values = transactions(run), synthetic_queries.messages(queries, seed=8)
            began, used = time.monotonic(), run.cpu_seconds()
            synthetic_queries.produce(producer, topic, values, 4)
            run.wait_until_decided(400 + queries, 600)
            flood, flood_seconds = run.cpu_seconds() - used, time.monotonic() - began
            middle, trickle_queries = (
                transactions(run),
                synthetic_queries.messages(int(rate * seconds), seed=9),
            )
            began, used = time.monotonic(), run.cpu_seconds()
            list(synthetic_queries.paced(producer, topic, trickle_queries, 4, rate))
            trickle, trickle_seconds = run.cpu_seconds() - used, time.monotonic() - began
            run.wait_until_decided(400 + queries + len(trickle_queries), 60)
            after = transactions(run)
            reading = cost_breakdown.cpu(lambda: transactions(run), 3) / after
    counts = np.array([[queries, middle - before], [len(trickle_queries), after - middle]], dtype=np.float64)
    spent = np.array([flood - idle * flood_seconds, trickle - idle * trickle_seconds])
    a_query, a_transaction = np.linalg.solve(counts, spent)
    return {
        "idle_share_of_a_core": idle,
        "flood_queries": queries,
        "flood_transactions": middle - before,
        "flood_cpu_seconds": flood,
        "trickle_queries": len(trickle_queries),
        "trickle_transactions": after - middle,
        "trickle_cpu_seconds": trickle,
        "query_cpu_us": 1e6 * a_query,
        "transaction_cpu_ms": 1e3 * a_transaction,
        "ledger_read_cpu_us": 1e6 * reading,
    }


def transactions(run: Any) -> int:
    """Return the number of ledger records so far, one per transaction."""
    config, topic = reader_config(run.settings), run.settings.topics.ledger
    records = (one for p in range(run.settings.partitions) for one in read_to_end(config, topic, p))
    return sum(period_of(one.key()) is None for one in records)


# ---- simulation ------------------------------------------------------------------------------------------


class World:
    """Return queries with estimates and true values, repeated to the requested number."""

    def __init__(self, dataset: Path | None, embeddings: Path | None, queries: int) -> None:
        if dataset is None or embeddings is None:
            history, stream_queries = load_demo()
            vectors = load_demo_vectors()
        else:
            data, matrix = load_dataset(dataset), normalised(np.load(embeddings))
            rows, past = split_rows(len(data), queries, seed=0)
            stream_queries, vectors = data.select(rows), matrix[rows]
            history = EmbeddedHistory(data.select(past), matrix[past], "stored")
        self.name = "demo" if dataset is None else dataset.name
        estimator = Neighbours(history, k=5, weights="uniform", cost="mean", index="exact")
        self.estimates = estimator.estimate(QueryBatch(list(stream_queries.prompts), vectors))
        self.quality, self.cost = stream_queries.quality, stream_queries.cost
        total = total_budget(stream_queries.cost, 1.0)
        means = history.history.quality.mean(0), history.history.cost.mean(0)
        self.budgets = np.asarray(split_budget(total, *means, "weighted"))

    def rows(self, count: int, seed: int) -> np.ndarray:
        """A stream of so many queries: the data set over and over, shuffled each time."""
        rng = np.random.default_rng(seed)
        n = len(self.quality)
        return np.concatenate([rng.permutation(n) for _ in range(-(-count // n))])[:count]

    def run(
        self,
        rows: np.ndarray,
        share: float,
        samples: int,
        lanes: np.ndarray | None = None,
        resolve: Resolve = "once",
    ) -> Any:
        """Route a stream by a router of its own with a share of the budgets; performance and the run."""
        estimates = Estimates(self.estimates.quality[rows], self.estimates.cost[rows])
        eps = min(1.0, samples / len(rows))
        settings = PlanningSettings(horizon=len(rows), eps=eps, solver="newton", resolve=resolve)
        budgets = self.budgets * share
        simulation = simulate(estimates, budgets, settings, lanes=lanes)
        accounts = account_for(simulation.choice, self.quality[rows], self.cost[rows], budgets)
        return accounts.performance, simulation


def cells_simulation(world: World, total: int, cells: tuple[int, ...], seeds: int) -> list[dict[str, Any]]:
    """Return the performance with queries and budgets split over independent routers."""
    rows_by_cells = []
    for count in cells:
        performances = []
        for seed in range(seeds):
            rows = world.rows(total, seed)
            place = np.random.default_rng(1000 + seed).integers(0, count, total)
            share = total / len(world.quality)
            performances.append(
                sum(world.run(rows[place == c], share / count, SAMPLES)[0] for c in range(count))
            )
        rows_by_cells.append(
            {"queries": total, "cells": count, "queries_a_cell": total / count, "performance": performances}
        )
    best = np.array(rows_by_cells[0]["performance"])
    for row in rows_by_cells:
        ratio = np.array(row["performance"]) / best
        row["relative"] = float(100 * ratio.mean())
        row["relative_sd"] = float(100 * ratio.std())
    return rows_by_cells


def samples_simulation(world: World, total: int, counts: tuple[int, ...], seeds: int) -> list[dict[str, Any]]:
    """Return the performance by the number of samples for learning prices."""
    rows = []
    for count in counts:
        performances = [
            world.run(world.rows(total, s), total / len(world.quality), count)[0] for s in range(seeds)
        ]
        rows.append({"queries": total, "samples": count, "performance": performances})
    best = np.array(rows[-1]["performance"])
    for row in rows:
        ratio = np.array(row["performance"]) / best
        row |= {"relative": float(100 * ratio.mean()), "relative_sd": float(100 * ratio.std())}
    return rows


def overflow_simulation(world: World, totals: tuple[int, ...], lanes: int) -> list[dict[str, Any]]:
    """Return the share of queries in the overflow lane, by price learning and number of queries.

    Once from few samples, once from many, and again and again: where prices are wrong an LLM's budget is gone
    early, and all that would have gone there takes the lane.
    """
    results = []
    ways: tuple[tuple[int, Resolve], ...] = (
        (SAMPLES, "once"),
        (MANY_SAMPLES, "once"),
        (SAMPLES, "geometric"),
    )
    for total in totals:
        rows = world.rows(total, 0)
        place = np.random.default_rng(5).integers(0, lanes, total)
        for samples, resolve in ways:
            performance, run = world.run(rows, total / len(world.quality), samples, place, resolve)
            results.append(
                {
                    "queries": total,
                    "lanes": lanes,
                    "queries_a_lane_and_llm": total / lanes / len(world.budgets),
                    "samples": samples,
                    "resolve": resolve,
                    "overflow_share": run.overflowed / total,
                    "performance": performance,
                }
            )
    return results


# ---- all of it -------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--dataset", type=Path, metavar="FILE", help="answered queries for the simulations")
    parser.add_argument("--embeddings", type=Path, metavar="NPY", help="of its rows")
    parser.add_argument("--no-broker", action="store_true", help="do not run a worker")
    parser.add_argument("--queries", type=int, default=40_000, help="of the worker's flood [%(default)s]")
    parser.add_argument("--seconds", type=float, default=15.0, help="of the worker's trickle [%(default)s]")
    parser.add_argument("--total", type=int, default=64_000, help="of the simulations [%(default)s]")
    parser.add_argument("--seeds", type=int, default=3, help="of the simulations [%(default)s]")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    result: dict[str, Any] = {
        "command": "python -m benchmarks.scaling "
        + " ".join(sys.argv[1:] if arguments is None else arguments),
        "machine": describe(),
        "queries": cost_breakdown.query_costs(16_000),
        "plans": cost_breakdown.plan_costs((5, 17, 65, 257, 1025), len(synthetic_queries.MODELS)),
        "solves": cost_breakdown.solve_costs((250, 1000, 4000, 16_000)),
        "embedding": cost_breakdown.embedding_costs(),
    }
    print_progress("parts measured")
    if not options.no_broker:
        result["worker"] = worker_costs(options.queries, 200.0, options.seconds)
        print_progress(f"worker {result['worker']['query_cpu_us']:.0f} us a query")
    world = World(options.dataset, options.embeddings, 8000)
    result["simulated_on"] = world.name
    result["cells"] = cells_simulation(world, options.total, (1, 2, 4, 8, 16, 32, 64), options.seeds)
    print_progress("cells simulated")
    result["samples"] = samples_simulation(
        world, options.total, (25, 50, 100, 200, 400, 1600, 6400), options.seeds
    )
    totals = (options.total // 16, options.total // 4, options.total, options.total * 4)
    result["overflow"] = overflow_simulation(world, totals, 16)
    print_progress("overflow simulated")
    if not options.no_broker:
        result["capacity"] = capacity(result)
    form = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    save(options.json, result)
    print(
        table(result["capacity"])
        if "capacity" in result
        else orjson.dumps(result["cells"], option=form).decode()
    )
    return 0


def capacity(result: dict[str, Any]) -> dict[str, Any]:
    """Return rows of the capacity model, for carried embeddings and for raw prompts with preset `fast`."""
    queries, embedding, plans = result["queries"], result["embedding"], result["plans"]
    lanes = np.array([row["lanes"] for row in plans], dtype=np.float64)

    def a_lane(name: str) -> float:
        return fitted_line(lanes, np.array([row[name] for row in plans]))

    shared = {
        "transport_us": result["worker"]["query_cpu_us"],
        "transaction_ms": result["worker"]["transaction_cpu_ms"],
        "plan_bytes": a_lane("plan_bytes"),
        "ledger_bytes": plans[0]["ledger_bytes"],
        "plan_decode_us": 1e3 * a_lane("plan_decode_ms"),
        "tick_us": 1e3 * a_lane("tick_ms"),
        "ledger_read_us": result["worker"]["ledger_read_cpu_us"],
        "query_bytes": queries["query_bytes"],
        "routed_bytes": queries["routed_bytes"],
        "reservation_bytes": queries["reservation_bytes"],
    }
    fast = max(0.0, embedding["fast_decision_us"] - queries["decide_us"])
    ways = {
        "carried, constant estimate": Costs(**shared, estimate_us=0.0, embed_us=0.0),
        "carried, 5 neighbours of 16,000": Costs(
            **shared, estimate_us=queries["neighbours_us"], embed_us=0.0
        ),
        "raw prompts, preset fast": Costs(**shared, estimate_us=fast, embed_us=0.0),
    }
    # the largest simulated stream, with prices that are learned again and again
    choice = Choice(deferred=result["overflow"][-1]["overflow_share"])
    rows = {way: [plan_capacity(rate, costs, choice) for rate in RATES] for way, costs in ways.items()}
    return {"choice": choice.__dict__, "costs": {w: c.__dict__ for w, c in ways.items()}, "rows": rows}


def table(capacity: dict[str, Any]) -> str:
    """Return the rows of the model as a table for docs/scaling.md."""
    lines = [
        "| queries/s | embedding and estimate | cells | workers | lanes | MB/s into Kafka |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for way, rows in capacity["rows"].items():
        lines += [
            f"| {row['rate']:,} | {way} | {row['cells']} | {row['workers']} | {row['lanes']} "
            f"| {row['kafka_in_mb_per_s']:,.0f} |"
            for row in rows
        ]
    return "\n".join(lines)


def print_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
