"""The amount that a query reserves: its estimated cost, a quantile of its cost, or a bound."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.cases import Case
from experiments.policies.port import Port
from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Row, write_rows
from experiments.runs.runner import ExperimentData, ExperimentPoint
from routing.arrays import IntArray
from routing.budgets.cost_quantile import CostQuantile, quantile_level
from routing.budgets.money import to_pico
from routing.budgets.splits import SHARED
from routing.planning.schedule import PlanningSettings
from routing.progress import tracked
from routing.simulation import Simulation, simulate

SUMMARY = "the amount that a query reserves until its outcome arrives, with one shared total"
RESERVES = ("estimate", "p90", "p95", "p95-fixed", "p99", "bound")
FIXED = "-fixed"
"""Suffix of a quantile that outcomes do not correct."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command, except those that name the data."""
    parser.add_argument("--policy", default="port-best", help="router [%(default)s]")
    parser.add_argument(
        "--budget-factors",
        default="1,3",
        metavar="F,G",
        help="the shared total, as multiples of the cheapest LLM's total cost [%(default)s]",
    )
    parser.add_argument(
        "--reserves", default=",".join(RESERVES), metavar="A,B", help="amounts to reserve [%(default)s]"
    )
    parser.add_argument(
        "--outcome-after", type=int, default=100, metavar="Q", help="queries until an outcome [%(default)s]"
    )


def run(
    options: argparse.Namespace, experiment: ExperimentData, config: dict[str, Any], seeds: Sequence[int]
) -> list[Row]:
    """Run every factor, seed and amount."""
    rows: list[Row] = []
    factors = [float(factor) for factor in options.budget_factors.split(",")]
    reserves = options.reserves.split(",")
    for seed in seeds:
        for factor in factors:
            point = ExperimentPoint(
                x=factor, queries=options.queries, policies=(options.policy,), factor=factor, how=SHARED
            )
            policy = experiment.policy(options.policy, point, seed)
            if not isinstance(policy, Port):
                raise ValueError(f"policy: {options.policy} is not a router of this project")
            case = experiment.case(point, seed)
            for reserve in tracked(reserves, f"reserve, factor {factor:g}, seed {seed}", "amounts"):
                measured = run_case(case, policy, reserve, options.outcome_after)
                rows.append({"factor": factor, "seed": seed, "reserve": reserve, **measured})
                write_rows(options.json, config, rows)
    return rows


def run_case(case: Case, policy: Port, reserve: str, outcome_after: int) -> Row:
    """Route a case and return what was reserved, spent and reached.

    Parameters
    ----------
    case : Case
        With a shared total.
    policy : Port
    reserve : str
        `estimate`, `bound`, or a percentile such as `p95`; `p95-fixed` is not corrected by outcomes. The
        bound is the highest cost of each LLM in the data set, so below that of any limit on its answers.
    outcome_after : int
        Queries after which an outcome arrives.
    """
    estimates = case.estimates(policy.source)
    settings = PlanningSettings(horizon=case.horizon, **policy.planning)  # type: ignore[arg-type]
    charge: IntArray | None = None
    quantile: CostQuantile | None = None
    if reserve == "bound":
        charge = np.broadcast_to(to_pico(case.split.data.cost.max(0)), estimates.cost.shape).copy()
    elif (level := quantile_level(reserve.removesuffix(FIXED))) is not None:
        own = case.leave_one_out(policy.source)
        quantile = CostQuantile.fit(level, case.models, own.cost, case.split.history.history.cost)
        if reserve.endswith(FIXED):
            charge = to_pico(estimates.cost * quantile.factors(case.models, {}))
            quantile = None
    result = simulate(
        estimates,
        case.shared,
        settings,
        models=case.models,
        history=case.leave_one_out(policy.source) if settings.uses_history else None,
        charge=charge,
        true_cost=case.cost,
        settle_after=outcome_after,
        seed=case.seed,
        terms=case.terms,
        reserve=quantile,
        real_costs=True,
    )
    return _point_row(case, result, outcome_after)


def _point_row(case: Case, result: Simulation, outcome_after: int) -> Row:
    served = np.flatnonzero(result.choice >= 0)
    actual = case.cost[served, result.choice[served]]
    reserved = result.reserved[served] / 1e12
    spent = float(actual.sum())
    excess = float(np.maximum(reserved - actual, 0.0).sum())
    accounts = case.account(result.choice)
    return {
        "performance": round(accounts.performance, 6),
        "served": len(served),
        "lost": len(served) - accounts.throughput,
        "coverage": float((actual <= reserved).mean()) if len(served) else None,
        "reserved_ratio": float(reserved.sum() / spent) if spent else None,
        "idle": excess * outcome_after / (len(case) * case.total),
        "unspent": max(0.0, 1 - spent / case.total),
        "overspent": max(0.0, spent / case.total - 1),
    }


HEAD = (
    "factor",
    "reserve",
    "performance",
    "served",
    "lost",
    "covered, %",
    "reserved / spent",
    "idle, %",
    "unspent, %",
    "worst overspending, %",
)


def _cells(rows: list[Row]) -> list[Cells]:
    """Return one line for each factor and amount: means over the seeds, and the worst overspending."""
    groups: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["factor"], row["reserve"]), []).append(row)
    return [
        [
            f"{factor:g}",
            reserve,
            f"{_mean(group, 'performance'):.1f}",
            f"{_mean(group, 'served'):.0f}",
            f"{_mean(group, 'lost'):.0f}",
            f"{100 * _mean(group, 'coverage'):.1f}",
            f"{_mean(group, 'reserved_ratio'):.2f}",
            f"{100 * _mean(group, 'idle'):.1f}",
            f"{100 * _mean(group, 'unspent'):.1f}",
            f"{100 * max(row['overspent'] for row in group):.1f}",
        ]
        for (factor, reserve), group in groups.items()
    ]


def _mean(rows: list[Row], name: str) -> float:
    values = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(values)) if values else float("nan")


def print_rows(rows: list[Row], title: str) -> None:
    """Print the table on the terminal."""
    print_cells(HEAD, _cells(rows), title)


def markdown(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    return markdown_cells(HEAD, _cells(rows))
