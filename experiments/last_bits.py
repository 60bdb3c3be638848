"""How far last bits move the published form: its price search has kinks, and stops where rounding says.

The search (L-BFGS-B, finite differences of 1e-8) minimises a piecewise linear function. At alpha = 1e-5 that
function is of size 1e-4, so that a difference of it is rounding for a good part, and the search is stopped by
differences of 2e-9. Here the estimates are multiplied by 1 + size * N(0, 1), with a size at which no
digit that anyone prints changes, and the whole form is run again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from experiments.policies.port import PortPublished
from experiments.registry import EXACT
from experiments.results import Results
from experiments.running import Laboratory, Setting
from experiments.split import Case
from routing.estimators.base import Estimates
from routing.simulate import account_for

SUMMARY = "how far changes in the last bits move the published form"

Row = dict[str, Any]
Figures = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command can be told beside the data."""
    parser.add_argument("--alphas", default="1e-5,1e-4,1e-3", help="of the form [%(default)s]")
    parser.add_argument("--draws", type=int, default=60, help="changes of the last bits [%(default)s]")
    parser.add_argument("--size", type=float, default=1e-15, help="of a change, relative [%(default)s]")
    parser.add_argument("--figures", type=Path, metavar="JSON", help="of the published code, to compare with")


def run(
    given: argparse.Namespace, laboratory: Laboratory, seeds: list[int], config: dict[str, Any]
) -> list[Row]:
    """A row for each alpha and seed of the random first decisions; the split is that of seed 0.

    Rows that the command's file has are not run again.
    """
    results = Results(given.json, config, _KEY, fixed=("queries", "figures"))
    figures = json.loads(given.figures.read_text(encoding="utf-8")) if given.figures else {}
    case = laboratory.case(Setting(x=1.0, queries=given.queries, policies=()), 0)
    if "budgets" in figures:
        case = case.with_budgets(np.array([figures["budgets"][name] for name in case.models]))
    rows: list[Row] = []
    for alpha in tqdm(given.alphas.split(","), desc="last bits", unit="alpha", disable=None):
        asked = [_named(float(alpha), seed, given.draws, given.size) for seed in seeds]
        missing = [one["seed"] for one in asked if results.find(one) is None]
        if missing:
            for row in spread(case, float(alpha), missing, given.draws, given.size, figures):
                results.add(row)
        rows += [found for one in asked if (found := results.find(one)) is not None]
    return rows


_KEY = ("policy", "seed", "size", "runs")


def _named(alpha: float, seed: int, draws: int, size: float) -> Row:
    return {"policy": f"port-published:alpha={alpha:g}", "seed": seed, "size": size, "runs": draws + 1}


def spread(
    case: Case, alpha: float, seeds: list[int], draws: int, size: float, figures: Figures | None = None
) -> list[Row]:
    """What the form reaches as its estimates change in the last bits.

    Parameters
    ----------
    case : Case
    alpha : float
        Of the published form.
    seeds : list of int
        Of the queries that it routes at random; the prices do not depend on them.
    draws : int
        Changed estimates; the unchanged ones come first and count as one more.
    size : float
        Relative, of a change.
    figures : dict, optional
        "results": {"port_published alpha=... seed=...": {"performance", "cost", "throughput"}}.

    Returns
    -------
    list of dict
        One a seed: unchanged performance; least, median and most of the changed; how many different outcomes
        there were; and, with figures, the published one and how many runs gave it digit for digit.
    """
    policy = PortPublished(EXACT, alpha=alpha)
    estimates, rng = case.estimates(EXACT), np.random.default_rng(0)
    found: dict[int, list[tuple[float, float, int]]] = {seed: [] for seed in seeds}
    for draw in range(draws + 1):
        moved = estimates if not draw else _moved(estimates, size, rng)
        prices = policy.prices(moved, case)
        for seed in seeds:
            choice = policy.follow(prices, estimates, replace(case, seed=seed))
            outcome = account_for(choice, case.quality, case.cost, case.budgets)
            found[seed].append((round(outcome.performance, 6), round(outcome.cost, 9), outcome.throughput))
    return [_row(alpha, seed, found[seed], size, _published(figures or {}, alpha, seed)) for seed in seeds]


def _moved(estimates: Estimates, size: float, rng: np.random.Generator) -> Estimates:
    shape = estimates.quality.shape
    return Estimates(
        estimates.quality * (1 + size * rng.normal(size=shape)),
        estimates.cost * (1 + size * rng.normal(size=shape)),
    )


def _published(figures: Figures, alpha: float, seed: int) -> Figures | None:
    for name, values in figures.get("results", {}).items():
        told = dict(part.split("=") for part in name.split() if "=" in part)
        if "published" in name and float(told["alpha"]) == alpha and int(told["seed"]) == seed:
            return dict(values)
    return None


def _row(
    alpha: float,
    seed: int,
    outcomes: list[tuple[float, float, int]],
    size: float,
    published: Figures | None,
) -> Row:
    changed = np.array(outcomes[1:] or outcomes[:1])
    performance, cost = changed[:, 0], changed[:, 1]
    row: Row = {
        **_named(alpha, seed, len(outcomes) - 1, size),
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
        wanted = (
            round(published["performance"], 6),
            round(published["cost"], 9),
            int(published["throughput"]),
        )
        row |= {
            "published": wanted[0],
            "published_cost": wanted[1],
            "identical": outcomes.count(wanted),
            "unchanged_is_identical": outcomes[0] == wanted,
        }
    return row


_COLUMNS = (
    "policy", "seed", "performance", "least", "median", "most", "cost", "least_cost", "most_cost", "outcomes",
    "published", "published_cost", "identical",
)  # fmt: skip


def markdown(rows: list[Row]) -> str:
    """The rows for a document."""
    names = [name for name in _COLUMNS if name in rows[0]]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def print_rows(rows: list[Row], title: str) -> None:
    """The rows on the terminal."""
    names = [name for name in _COLUMNS if name in rows[0]]
    table = Table(*names, title=title)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    Console(width=140).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
