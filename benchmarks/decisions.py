"""How long a decision takes from the raw prompt, by preset, in one thread."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.machine import describe
from benchmarks.saving import save
from routing.account import Account
from routing.datasets import load_dataset
from routing.estimators.base import QueryBatch
from routing.fitting import Fitted, fit
from routing.planning import Planner, PlanningSettings
from routing.policy import route
from routing.presets import choose_preset
from routing.unit import normalised

BATCHES = (1, 32, 256)

SLOW_QUERIES = 64
"""Prompts that are measured where a neural model embeds them, some 50 ms each; no larger batches either."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__)
    parser.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="answered queries")
    parser.add_argument("--embeddings", required=True, type=Path, metavar="NPY", help="of its rows")
    parser.add_argument("--presets", default="fast,best", metavar="A,B", help="[%(default)s]")
    parser.add_argument("--queries", type=int, default=2048, metavar="N", help="measured on [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="the best counts [%(default)s]")
    parser.add_argument(
        "--raw", default="", metavar="A,B", help="presets of a neural model to measure from raw prompts too"
    )
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser


def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    data = load_dataset(given.dataset)
    vectors = normalised(np.load(given.embeddings))
    order = np.random.default_rng(0).permutation(len(data))
    test, past = order[: given.queries], order[given.queries :]
    history, prompts = data.select(past), [data.texts[i] for i in test]
    rows: list[dict[str, Any]] = []
    for name in given.presets.split(","):
        preset, reason = choose_preset(len(past), name)
        fitted = fit(history, preset, embeddings=vectors[past])
        neural = preset.embedder == "model"
        forms = ([False, True] if name in given.raw.split(",") else [False]) if neural else [True]
        for raw in forms:
            slow = raw and neural
            few, rounds = (prompts[:SLOW_QUERIES], 1) if slow else (prompts, given.rounds)
            for batch in [b for b in BATCHES if not slow or b <= SLOW_QUERIES]:
                row = {"preset": name, "reason": reason, "batch": batch, "history": len(past), "raw": raw}
                rows.append(row | measured(fitted, few, vectors[test], batch, rounds, raw=raw))
                print(
                    f"{name:6} {'raw' if raw else 'embedded':8} batches of {batch:3}: "
                    + "  ".join(f"{k} {v:10.1f}" for k, v in rows[-1].items() if k.endswith("_us")),
                    flush=True,
                )
    save(given.json, {"machine": describe(), "dataset": given.dataset.name, "rows": rows})
    return 0


def measured(
    fitted: Fitted, prompts: list[str], vectors: np.ndarray, batch: int, rounds: int, *, raw: bool
) -> dict[str, float]:
    """Microseconds a query, by wall clock and by processor time: best of the rounds."""
    models = len(fitted.history.models)
    own = fitted.estimator.leave_one_out()
    settings = PlanningSettings(horizon=10**6, warmup="history", solver="newton")
    planner = Planner(settings, fitted.history.models, own.cost.mean(0) * 1e6 / models, history=own)
    plan = planner.start_period()
    limit = len(prompts) if batch > 1 else min(256, len(prompts))

    def embed(part: slice) -> QueryBatch:
        if raw:
            return fitted.embedder.embed(prompts[part])
        return QueryBatch(prompts[part], vectors[part])

    def decide() -> None:
        account = Account.fresh(plan.period, models)
        for start in range(0, limit, batch):
            part = slice(start, min(start + batch, limit))
            estimates = fitted.estimator.estimate(embed(part))
            account = route(account, plan, 0, estimates, np.arange(part.start, part.stop)).account

    def embed_all() -> None:
        for start in range(0, limit, batch):
            embed(slice(start, min(start + batch, limit)))

    decide()
    whole, whole_cpu = best_of(rounds, decide)
    embedding, _ = best_of(rounds, embed_all)
    unit = 1e6 / limit
    return {
        "queries": limit,
        "decision_us": whole * unit,
        "decision_cpu_us": whole_cpu * unit,
        "embedding_us": embedding * unit,
        "queries_per_second": limit / whole,
    }


def best_of(rounds: int, run: Any) -> tuple[float, float]:
    wall, processor = [], []
    for _ in range(rounds):
        begun, used = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    return min(wall), min(processor)


if __name__ == "__main__":
    sys.exit(main())
