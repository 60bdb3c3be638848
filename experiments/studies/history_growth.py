"""Benefit of adding answered queries, of which one LLM's quality is known, to a short history."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.cases import Split
from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Row, write_rows
from experiments.runs.runner import ExperimentData, ExperimentPoint
from experiments.studies.shared_total import SharedTotal, add_budget_factor
from routing.arrays import FloatArray, IntArray
from routing.budgets.splits import total_budget
from routing.embedding.query_batch import QueryBatch
from routing.estimators.ridge import RidgeEstimator, fit_ridge
from routing.estimators.ridge_settings import RidgeSettings
from routing.feedback.partial_rows import ResidualSlopes
from routing.history.history import EmbeddedHistory
from routing.progress import tracked

SUMMARY = "a short history grows by answered queries whose chosen LLM's quality was reported"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command, except those that name the data."""
    parser.add_argument("--history", type=int, default=1000, metavar="H", help="first rows [%(default)s]")
    parser.add_argument(
        "--refit-every", type=int, default=1000, metavar="Q", help="queries between refits [%(default)s]"
    )
    add_budget_factor(parser)
    parser.add_argument(
        "--words", type=int, default=128, help="dimensions of the prompt's words [%(default)s]"
    )


def run(
    options: argparse.Namespace, experiment: ExperimentData, config: dict[str, Any], seeds: Sequence[int]
) -> list[Row]:
    """Run every seed."""
    rows: list[Row] = []
    for seed in seeds:
        point = ExperimentPoint(x=seed, queries=options.queries, policies=(), history=options.history)
        rows.append({"seed": seed, **run_split(experiment.split(point, seed), options)})
        write_rows(options.json, config, rows)
    return rows


class _Growth:
    """The blocks of one split, routed with histories that grow in one way or another."""

    def __init__(self, split: Split, options: argparse.Namespace) -> None:
        self.split, self.every = split, options.refit_every
        self.settings = RidgeSettings(words=options.words)
        self.quality, self.cost = split.data.quality[split.test], split.data.cost[split.test]
        self.total = total_budget(self.cost, options.budget_factor)
        self.starts = range(0, len(self.cost), self.every)

    def fit(self, rows: int, quality: FloatArray | None = None) -> RidgeEstimator:
        """Fit to the history and the first test rows, with these qualities in place of the true ones."""
        split = self.split
        index = np.concatenate([split.past, split.test[:rows]])
        data = split.data.select(index)
        if quality is not None:
            data = replace(data, quality=np.vstack([data.quality[: len(split.past)], quality]))
        history = EmbeddedHistory(data, split.embeddings[index], split.embedder)
        return fit_ridge(history, self.settings, split.features[index])

    def route(self, estimator: RidgeEstimator, start: int) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return choices, qualities, and estimated qualities [n, M] of a block on its share of the total."""
        block = slice(start, start + self.every)
        estimates = estimator.estimate(_queries(self.split, block))
        true, none = self.quality[block], np.zeros(len(self.quality[block]), np.int64)
        own = estimator.leave_one_out()
        share = self.total * len(true) / len(self.cost)
        shared = SharedTotal(estimates, own, self.cost[block], share, none, np.zeros(len(own), np.int64))
        choice, reward = shared.run(lambda j, i: float(true[j, i]))
        return choice, reward, estimates.quality


def _queries(split: Split, rows: slice) -> QueryBatch:
    batch = split.batch()
    return QueryBatch(batch.prompts[rows], batch.embeddings[rows], split.features[split.test[rows]])


def run_split(split: Split, options: argparse.Namespace) -> Row:
    """Return the performance by block: of the first history, the grown one, and one that knows all LLMs."""
    growth = _Growth(split, options)
    first = growth.fit(0)
    slopes = ResidualSlopes.fit(split.data.quality[split.past], first.leave_one_out())
    blocks: dict[str, list[float]] = {"fixed": [], "grown": [], "full": []}
    estimator, observed = first, np.zeros((0, growth.quality.shape[1]))
    for start in tracked(list(growth.starts), f"history growth, seed {split.seed}", "blocks"):
        blocks["fixed"].append(float(growth.route(first, start)[1].sum()))
        if start:
            estimator = growth.fit(start, observed)
        choice, reward, estimated = growth.route(estimator, start)
        blocks["grown"].append(float(reward.sum()))
        full = growth.fit(start) if start >= len(growth.quality) * 3 // 4 else None
        blocks["full"].append(float("nan") if full is None else float(growth.route(full, start)[1].sum()))
        filled = estimated.copy()
        served = np.flatnonzero(choice >= 0)
        filled[served] = slopes.filled(estimated[served], choice[served], reward[served])
        observed = np.vstack([observed, filled])
    last = slice(3 * len(blocks["fixed"]) // 4, None)
    sums = {name: float(np.sum(values[last])) for name, values in blocks.items()}
    return {
        "blocks": {name: [None if v != v else v for v in values] for name, values in blocks.items()},
        **{f"last_{name}": value for name, value in sums.items()},
        "share": (sums["grown"] - sums["fixed"]) / (sums["full"] - sums["fixed"]),
    }


HEAD = ("seed", "last quarter: first history", "grown", "all LLMs known", "of the way, %")


def _cells(row: Row) -> Cells:
    return [
        str(row["seed"]),
        *(f"{row[f'last_{name}']:.1f}" for name in ("fixed", "grown", "full")),
        f"{100 * row['share']:.0f}",
    ]


def print_rows(rows: list[Row], title: str) -> None:
    """Print the table on the terminal."""
    print_cells(HEAD, [_cells(row) for row in rows], title)


def markdown(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    return markdown_cells(HEAD, [_cells(row) for row in rows])
