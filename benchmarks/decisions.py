"""Time of a decision from the raw prompt, by preset, in one thread, with a budget per LLM and with three."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.machine import describe
from benchmarks.result_file import save
from routing.budgets.budget import Budget
from routing.budgets.terms import QueryTerms
from routing.datasets.load import load_dataset
from routing.datasets.split import split_rows
from routing.embedding.query_batch import QueryBatch
from routing.embedding.unit_vectors import normalised
from routing.fitting.fit import fit
from routing.fitting.presets import choose_preset
from routing.fitting.saved_fit import Fitted
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.policy import route

SLOW_QUERIES = 64
"""Prompts that are measured where a neural model embeds them, some 50 ms each; no larger batches either."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__)
    parser.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="answered queries")
    parser.add_argument("--embeddings", required=True, type=Path, metavar="NPY", help="of its rows")
    parser.add_argument("--presets", default="fast,best", metavar="A,B", help="[%(default)s]")
    parser.add_argument("--batches", default="1,32,256", metavar="N,N", help="[%(default)s]")
    parser.add_argument("--queries", type=int, default=2048, metavar="N", help="measured on [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="the best counts [%(default)s]")
    parser.add_argument(
        "--raw", default="", metavar="A,B", help="presets of a neural model to measure from raw prompts too"
    )
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    data = load_dataset(options.dataset)
    vectors = normalised(np.load(options.embeddings))
    test, past = split_rows(len(data), options.queries, seed=0)
    history, prompts = data.select(past), [data.texts[i] for i in test]
    rows: list[dict[str, Any]] = []
    batches = [int(number) for number in options.batches.split(",")]
    for name in options.presets.split(","):
        preset, reason = choose_preset(len(past), name)
        fitted = fit(history, preset, embeddings=vectors[past])
        neural = preset.embedder == "model"
        forms = ([False, True] if name in options.raw.split(",") else [False]) if neural else [True]
        for raw in forms:
            slow = raw and neural
            sample, rounds = (prompts[:SLOW_QUERIES], 1) if slow else (prompts, options.rounds)
            for batch in [b for b in batches if not slow or b <= SLOW_QUERIES]:
                row = {"preset": name, "reason": reason, "batch": batch, "history": len(past), "raw": raw}
                rows.append(row | measured(fitted, sample, vectors[test], batch, rounds, raw=raw))
                print(
                    f"{name:6} {'raw' if raw else 'embedded':8} batches of {batch:3}: "
                    + "  ".join(f"{k} {v:.1f}" for k, v in rows[-1].items() if k.endswith(("_us", "_ratio"))),
                    flush=True,
                )
    save(options.json, {"machine": describe(), "dataset": options.dataset.name, "rows": rows})
    return 0


TEAMS = tuple(f"team-{number}" for number in range(5))


def three_budgets(models: tuple[str, ...], total: float) -> tuple[Budget, ...]:
    """Return a shared total, a limit of the first third of the LLMs, and one for each team."""
    return (
        Budget("total", limit=total),
        Budget("provider", limit=total / 2, models=models[: max(1, len(models) // 3)]),
        Budget("team", group_by="metadata.team", limits=dict.fromkeys(TEAMS, total / len(TEAMS))),
    )


def measured(
    fitted: Fitted, prompts: list[str], vectors: np.ndarray, batch: int, rounds: int, *, raw: bool
) -> dict[str, float]:
    """Return microseconds per query in wall-clock and processor time: the best of the rounds.

    With three budgets instead of one per LLM, `three_budgets_ratio` is the whole decision's processor time
    and `choice_three_budgets_ratio` that of the choice without embedding and estimate.
    """
    names = tuple(fitted.history.models)
    models = len(names)
    own = fitted.estimator.leave_one_out()
    settings = PlanningSettings(horizon=10**6, warmup="history", solver="newton")
    each = own.cost.mean(0) * 1e6 / models
    plans = {
        "": Planner(settings, names, each, history=own).start_period(),
        "three_": Planner(
            settings, names, three_budgets(names, float(each.sum())), history=own
        ).start_period(),
    }
    limit = len(prompts) if batch > 1 else min(256, len(prompts))

    def embed(part: slice) -> QueryBatch:
        if raw:
            return fitted.embedder.embed(prompts[part])
        return QueryBatch(prompts[part], vectors[part])

    estimated = fitted.estimator.estimate(embed(slice(0, limit)))
    teams = QueryTerms(values={"metadata.team": [TEAMS[j % len(TEAMS)] for j in range(limit)]})

    def decide(kind: str = "", *, estimate: bool = True) -> None:
        plan = plans[kind]
        account = Account.fresh(plan.period - 1, models)
        for start in range(0, limit, batch):
            part = slice(start, min(start + batch, limit))
            estimates = fitted.estimator.estimate(embed(part)) if estimate else estimated.rows(part)
            terms = teams.rows(part) if kind else QueryTerms()
            offsets = np.arange(part.start, part.stop)
            account = route(account, plan, 0, estimates, offsets, terms=terms).account

    def embed_all() -> None:
        for start in range(0, limit, batch):
            embed(slice(start, min(start + batch, limit)))

    runs = {
        "decision": decide,
        "three_budgets": lambda: decide("three_"),
        "choice": lambda: decide(estimate=False),
        "choice_three_budgets": lambda: decide("three_", estimate=False),
        "embedding": embed_all,
    }
    decide()
    wall, processor = best_of_each(rounds, runs)
    unit = 1e6 / limit
    return {
        "queries": limit,
        **{f"{name}_us": seconds * unit for name, seconds in wall.items()},
        **{f"{name}_cpu_us": seconds * unit for name, seconds in processor.items()},
        "three_budgets_ratio": processor["three_budgets"] / processor["decision"],
        "choice_three_budgets_ratio": processor["choice_three_budgets"] / processor["choice"],
        "queries_per_second": limit / wall["decision"],
    }


def best_of(rounds: int, run: Callable[[], object]) -> tuple[float, float]:
    """Return seconds of wall-clock and processor time: the best of the rounds."""
    wall, processor = best_of_each(rounds, {"": run})
    return wall[""], processor[""]


def best_of_each(
    rounds: int, runs: Mapping[str, Callable[[], object]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the same for several runs, one after another in each round, so that all meet the same load."""
    wall, processor = dict.fromkeys(runs, math.inf), dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            begun, used = time.perf_counter(), time.process_time()
            run()
            wall[name] = min(wall[name], time.perf_counter() - begun)
            processor[name] = min(processor[name], time.process_time() - used)
    return wall, processor


if __name__ == "__main__":
    sys.exit(main())
