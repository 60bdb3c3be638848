"""Policies at equal spend: tune each policy's budget factor until its cost reaches a common target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from experiments.runs.results import Row
from experiments.runs.runner import ExperimentData, ExperimentPoint

_MAX_FACTOR_RATIO = 64.0
"""Largest budget factor tried, as a multiple of the first one."""

_MAX_HALVINGS = 10
_SCANNED_FACTORS = 16
_MAX_CROSSINGS = 4


def at_equal_spend(
    experiment: ExperimentData, point: ExperimentPoint, seed: int, name: str, tolerance: float = 0.01
) -> Row:
    """Return the row of a policy at the budget factor at which it spends the point's budget.

    A policy that spends less than its budget gets a larger one; see `search`. The field `relative` still
    compares with the approximate optimum at the point's own factor.

    Parameters
    ----------
    tolerance : float
        Allowed difference between cost and target, as a share of the target.

    Returns
    -------
    dict
        As `ExperimentData.run`, with the resulting `budget_factor`, the `target` in USD, the number of runs
        (`tries`), and `reached`: the cost is within the tolerance. A policy misses the target if it runs
        out of queries to spend on, or if its spend jumps over the target.
    """
    case = experiment.case(point, seed)
    target = float(case.budgets.sum())
    reference = experiment.reference(point, seed, case)

    def run(factor: float) -> Row:
        return experiment.run(replace(point, factor=factor), seed, name)

    best, tries = search(run, point.factor, target, tolerance)
    return {
        **best,
        "relative": round(100 * best["performance"] / reference, 3) if reference > 0 else None,
        "budget_factor": best["factor"],
        "target": target,
        "tries": tries,
        "reached": abs(best["cost"] - target) <= tolerance * target,
        "x": point.x,
    }


def search(run: Callable[[float], Row], start: float, target: float, tolerance: float) -> tuple[Row, int]:
    """Return the row whose cost is nearest to the target, and the number of runs.

    The search doubles the factor until the policy spends enough, then bisects. If prices rest on few queries,
    spend does not rise steadily with the factor. If bisection misses the target, the search therefore scans
    factors around the best one and bisects the narrowest intervals in which spend crosses the target.

    Parameters
    ----------
    run : callable
        Maps a budget factor to a row with "cost" and "factor".
    start : float
        The first factor.
    target : float
        USD.
    tolerance : float
        Share of the target.
    """
    runs = _RunsByFactor(run, target, tolerance)
    low = high = start
    runs.cost_at(start)
    while not runs.reached and runs.cost_at(high) < target and high < _MAX_FACTOR_RATIO * start:
        low, high = high, 2 * high
        runs.cost_at(high)
    if runs.cost_at(high) >= target:
        runs.bisect(low, high, _MAX_HALVINGS)
    if runs.reached or high >= _MAX_FACTOR_RATIO * start:
        return runs.best, len(runs.rows)
    middle = runs.best["factor"]
    around = [float(f) for f in np.linspace(max(start, middle / 1.6), middle * 1.6, _SCANNED_FACTORS)]
    for factor in sorted(around, key=lambda factor: abs(factor - middle)):
        runs.cost_at(factor)
        if runs.reached:
            return runs.best, len(runs.rows)
    for left, right in runs.crossings()[:_MAX_CROSSINGS]:
        runs.bisect(left, right, _MAX_HALVINGS)
        if runs.reached:
            break
    return runs.best, len(runs.rows)


@dataclass
class _RunsByFactor:
    """Rows of one policy by budget factor."""

    run: Callable[[float], Row]
    target: float
    tolerance: float
    rows: dict[float, Row] = field(default_factory=dict)

    @property
    def best(self) -> Row:
        return min(self.rows.values(), key=lambda row: abs(row["cost"] - self.target))

    @property
    def reached(self) -> bool:
        return bool(self.rows) and abs(self.best["cost"] - self.target) <= self.tolerance * self.target

    def cost_at(self, factor: float) -> float:
        """Return the cost at a factor in USD, running the policy if necessary."""
        if factor not in self.rows:
            self.rows[factor] = self.run(factor)
        return float(self.rows[factor]["cost"])

    def bisect(self, low: float, high: float, times: int) -> None:
        """Bisect an interval whose ends spend on opposite sides of the target."""
        rising = self.cost_at(high) > self.cost_at(low)
        for _ in range(times):
            if self.reached:
                return
            middle = (low + high) / 2
            if (self.cost_at(middle) < self.target) == rising:
                low = middle
            else:
                high = middle

    def crossings(self) -> list[tuple[float, float]]:
        """Return neighbouring factors with the target between their costs, the narrowest pair first."""
        factors = sorted(self.rows)
        below = {factor: self.cost_at(factor) < self.target for factor in factors}
        pairs = [(low, high) for low, high in pairwise(factors) if below[low] != below[high]]
        return sorted(pairs, key=lambda pair: pair[1] - pair[0])
