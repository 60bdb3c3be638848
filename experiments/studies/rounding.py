"""Sensitivity of the published form to rounding.

The published price search (L-BFGS-B, finite differences of 1e-8) minimises a piecewise linear function. At
alpha = 1e-5 the function's value is about 1e-4. Its differences are then largely rounding errors, and
differences of 2e-9 stop the search. This study multiplies the estimates by 1 + size * N(0, 1), with a size
that changes no printed digit of them, and runs the whole form again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cases import Case
from experiments.policies.port import PortPublished
from experiments.policies.registry import EXACT
from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Results, Row
from experiments.runs.runner import ExperimentData, ExperimentPoint
from routing.accounting import account_for
from routing.estimators.base import Estimates
from routing.progress import tracked

SUMMARY = "sensitivity of the published form to changes in the last bits of its estimates"

Figures = dict[str, Any]
Outcome = tuple[float, float, int]
"""Performance, cost in USD and throughput, rounded as the published figures are."""

_KEY = ("policy", "seed", "size", "runs")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command, except those that name the data."""
    parser.add_argument("--alphas", default="1e-5,1e-4,1e-3", help="alphas of the form [%(default)s]")
    parser.add_argument("--draws", type=int, default=60, help="changed sets of estimates [%(default)s]")
    parser.add_argument("--size", type=float, default=1e-15, help="relative size of a change [%(default)s]")
    parser.add_argument(
        "--figures", type=Path, metavar="JSON", help="results of the published code, for comparison"
    )


def run(
    options: argparse.Namespace, experiment: ExperimentData, seeds: list[int], config: dict[str, Any]
) -> list[Row]:
    """Return a row for each alpha and each seed of the random first decisions, on the split of seed 0.

    Rows that the result file already has are not run again.
    """
    results = Results(options.json, config, _KEY, fixed=("queries", "figures"))
    figures = json.loads(options.figures.read_text(encoding="utf-8")) if options.figures else {}
    case = experiment.case(ExperimentPoint(x=1.0, queries=options.queries, policies=()), 0)
    if "budgets" in figures:
        case = case.with_budgets(np.array([figures["budgets"][name] for name in case.models]))
    rows: list[Row] = []
    for alpha in tracked(options.alphas.split(","), "last bits", "alphas"):
        keys = [_key_fields(float(alpha), seed, options.draws, options.size) for seed in seeds]
        missing = [key["seed"] for key in keys if results.find(key) is None]
        if missing:
            for row in spread(case, float(alpha), missing, options.draws, options.size, figures):
                results.add(row)
        rows += [stored for key in keys if (stored := results.find(key)) is not None]
    return rows


def _key_fields(alpha: float, seed: int, draws: int, size: float) -> Row:
    return {"policy": f"port-published:alpha={alpha:g}", "seed": seed, "size": size, "runs": draws + 1}


def spread(
    case: Case, alpha: float, seeds: list[int], draws: int, size: float, figures: Figures | None = None
) -> list[Row]:
    """Run the published form on unchanged estimates and on estimates changed in the last bits.

    Parameters
    ----------
    case : Case
    alpha : float
        Of the published form.
    seeds : list of int
        Seeds of the queries routed at random. The prices do not depend on them.
    draws : int
        Number of changed sets of estimates, in addition to the unchanged one.
    size : float
        Relative size of a change.
    figures : dict, optional
        "results": {"port_published alpha=... seed=...": {"performance", "cost", "throughput"}}.

    Returns
    -------
    list of dict
        One row for each seed: performance on unchanged estimates; minimum ("least"), median and maximum
        ("most") on changed ones; number of different outcomes. With figures also the published
        performance, and the number of runs that gave the published figures digit for digit.
    """
    policy = PortPublished(EXACT, alpha=alpha)
    estimates, rng = case.estimates(EXACT), np.random.default_rng(0)
    outcomes: dict[int, list[Outcome]] = {seed: [] for seed in seeds}
    for draw in range(draws + 1):
        changed = estimates if not draw else _perturb(estimates, size, rng)
        prices = policy.prices(changed, case)
        for seed in seeds:
            choice = policy.follow(prices, estimates, replace(case, seed=seed))
            outcome = account_for(choice, case.quality, case.cost, case.budgets)
            outcomes[seed].append((round(outcome.performance, 6), round(outcome.cost, 9), outcome.throughput))
    return [
        _row(alpha, seed, outcomes[seed], size, _published_figures(figures or {}, alpha, seed))
        for seed in seeds
    ]


def _perturb(estimates: Estimates, size: float, rng: np.random.Generator) -> Estimates:
    shape = estimates.quality.shape
    return Estimates(
        estimates.quality * (1 + size * rng.normal(size=shape)),
        estimates.cost * (1 + size * rng.normal(size=shape)),
    )


def _published_figures(figures: Figures, alpha: float, seed: int) -> Figures | None:
    for name, values in figures.get("results", {}).items():
        parameters = dict(part.split("=") for part in name.split() if "=" in part)
        if "published" in name and float(parameters["alpha"]) == alpha and int(parameters["seed"]) == seed:
            return dict(values)
    return None


def _row(alpha: float, seed: int, outcomes: list[Outcome], size: float, published: Figures | None) -> Row:
    changed = np.array(outcomes[1:] or outcomes[:1])
    performance, cost = changed[:, 0], changed[:, 1]
    row: Row = {
        **_key_fields(alpha, seed, len(outcomes) - 1, size),
        "performance": outcomes[0][0],
        "least": float(performance.min()),
        "median": float(np.median(performance)),
        "most": float(performance.max()),
        "outcomes": len(set(outcomes)),
        "cost": outcomes[0][1],
        "least_cost": float(cost.min()),
        "most_cost": float(cost.max()),
    }
    if published is not None:
        expected = (
            round(published["performance"], 6),
            round(published["cost"], 9),
            int(published["throughput"]),
        )
        row |= {
            "published": expected[0],
            "published_cost": expected[1],
            "identical": outcomes.count(expected),
            "unchanged_is_identical": outcomes[0] == expected,
        }
    return row


_COLUMNS = (
    "policy",
    "seed",
    "performance",
    "least",
    "median",
    "most",
    "cost",
    "least_cost",
    "most_cost",
    "outcomes",
    "published",
    "published_cost",
    "identical",
)


def markdown(rows: list[Row]) -> str:
    """Return the rows as a table in Markdown."""
    return markdown_cells(*_table_cells(rows))


def print_rows(rows: list[Row], title: str) -> None:
    """Print the rows on the terminal."""
    head, cells = _table_cells(rows)
    print_cells(head, cells, title, left_columns=len(head))


def _table_cells(rows: list[Row]) -> tuple[list[str], list[Cells]]:
    head = [name for name in _COLUMNS if name in rows[0]]
    return head, [[_cell(row.get(name)) for name in head] for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
