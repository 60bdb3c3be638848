"""Benefit of correcting estimates by reported quality when an LLM gets worse, and its cost when none does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.cases import Split
from experiments.policies.port import Port
from experiments.policies.registry import Context, make_policy
from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Row, write_rows
from experiments.runs.runner import ExperimentData, ExperimentPoint
from experiments.studies.shared_total import SharedTotal, add_budget_factor
from routing.arrays import FloatArray
from routing.budgets.splits import total_budget
from routing.feedback.clusters import fit_clusters
from routing.progress import tracked

SUMMARY = "the most used LLM loses quality for the middle third of the stream, and gets it back"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command, except those that name the data."""
    parser.add_argument("--policy", default="port-best", help="one of the port policies [%(default)s]")
    add_budget_factor(parser)
    parser.add_argument(
        "--lost", type=float, default=0.6, help="share of quality that the LLM loses [%(default)s]"
    )
    parser.add_argument(
        "--outcome-after", type=int, default=20, metavar="Q", help="queries until an outcome [%(default)s]"
    )
    parser.add_argument("--clusters", type=int, default=8, help="task clusters [%(default)s]")


def run(
    options: argparse.Namespace, experiment: ExperimentData, config: dict[str, Any], seeds: Sequence[int]
) -> list[Row]:
    """Run the scenario on every seed."""
    rows: list[Row] = []
    for seed in tracked(list(seeds), "quality change", "seeds"):
        split = experiment.split(ExperimentPoint(x=seed, queries=options.queries, policies=()), seed)
        rows.append({"seed": seed, **run_split(split, options)})
        write_rows(options.json, config, rows)
    return rows


def shared_total(split: Split, policy: str, factor: float, clusters: int) -> SharedTotal:
    """Return the split's stream on one total, with a policy's estimates."""
    chosen_policy = make_policy(policy, Context(len(split.past)))
    if not isinstance(chosen_policy, Port):
        raise ValueError(f"policy: {policy!r} has no history estimates; give one of the port policies")
    estimates, own = split.estimates(chosen_policy.source)
    if own is None:
        raise ValueError(f"policy: {policy!r} has no leave-one-out estimates of the history")
    tasks = fit_clusters(split.history.embeddings, clusters)
    cost = split.data.cost[split.test]
    return SharedTotal(
        estimates,
        own,
        cost,
        total_budget(cost, factor),
        tasks.nearest(split.embeddings[split.test]),
        tasks.nearest(split.history.embeddings),
    )


def run_split(split: Split, options: argparse.Namespace) -> Row:
    """Return performance with and without the change, with and without learning, and what is recovered.

    `recovered` is the share of the performance lost to the change that learning saves. `recovered_after` is
    the share, in the last third, of what is lost if corrections stay as they are when the change ends.
    """
    stream = shared_total(split, options.policy, options.budget_factor, options.clusters)
    quality = split.data.quality[split.test]
    n, models = quality.shape
    begin, end = n // 3, 2 * n // 3
    plain, steady = stream.run(lambda j, i: float(quality[j, i]))
    used = np.bincount(plain[plain >= 0], minlength=models)
    worse = int(used.argmax())

    def factor(j: int) -> FloatArray:
        factors = np.ones(models)
        if begin <= j < end:
            factors[worse] = 1 - options.lost
        return factors

    def changed(j: int, i: int) -> float:
        return float(quality[j, i] * factor(j)[i])

    delay = options.outcome_after
    _, fixed = stream.run(changed)
    _, oracle = stream.run(changed, known_factor=factor)
    _, learned_steady = stream.run(lambda j, i: float(quality[j, i]), learns=True, outcome_after=delay)
    choice, learned = stream.run(changed, learns=True, outcome_after=delay)

    def avoided(j: int) -> FloatArray:
        factors = np.ones(models)
        if j >= begin:
            factors[worse] = 1 - options.lost
        return factors

    _, avoiding = stream.run(changed, known_factor=avoided)
    lost = float(steady.sum() - fixed.sum())
    third = slice(end, n)
    return {
        "llm": split.data.models[worse],
        "share": float(used[worse] / n),
        "steady": float(steady.sum()),
        "steady_learned": float(learned_steady.sum()),
        "changed": float(fixed.sum()),
        "changed_learned": float(learned.sum()),
        "changed_known": float(oracle.sum()),
        "recovered": float(learned.sum() - fixed.sum()) / lost,
        "recovered_known": float(oracle.sum() - fixed.sum()) / lost,
        "last_third": float(steady[third].sum()),
        "last_third_learned": float(learned[third].sum()),
        "last_third_avoided": float(avoiding[third].sum()),
        "used_again": float((choice[third] == worse).mean()),
        "cost_of_learning": float(1 - learned_steady.sum() / steady.sum()),
    }


HEAD = ("seed", "LLM", "steady", "learned", "changed", "learned", "known", "recovered, %", "known, %",
        "last third", "learned", "if avoided", "cost of learning, %")  # fmt: skip


def _cells(row: Row) -> Cells:
    return [
        str(row["seed"]),
        row["llm"],
        *(f"{row[name]:.1f}" for name in (
            "steady", "steady_learned", "changed", "changed_learned", "changed_known")),
        f"{100 * row['recovered']:.0f}",
        f"{100 * row['recovered_known']:.0f}",
        *(f"{row[name]:.1f}" for name in ("last_third", "last_third_learned", "last_third_avoided")),
        f"{100 * row['cost_of_learning']:+.2f}",
    ]  # fmt: skip


def _lines(rows: list[Row]) -> list[Cells]:
    mean = {name: np.mean([row[name] for row in rows]) for name in rows[0] if name not in ("seed", "llm")}
    return [_cells(row) for row in [*rows, {"seed": "mean", "llm": "", **mean}]]


def print_rows(rows: list[Row], title: str) -> None:
    """Print the table on the terminal."""
    print_cells(HEAD, _lines(rows), title, left_columns=2)


def markdown(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    return markdown_cells(HEAD, _lines(rows))
