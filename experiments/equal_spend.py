"""Policies at equal spend: each policy's budget factor is tuned until it spends what all shall spend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.running import Laboratory, Setting

Row = dict[str, Any]

_LARGEST = 64.0
_HALVINGS = 10
_SCANNED = 16
_CROSSINGS = 4


def at_equal_spend(
    laboratory: Laboratory, setting: Setting, seed: int, name: str, tolerance: float = 0.01
) -> Row:
    """The row of a policy whose cost is the setting's budget, within a share of it.

    A policy that spends less than its budget gets a larger one; see `search`. What is told as `relative` is
    still against the approximate optimum at the setting's own factor.

    Parameters
    ----------
    tolerance : float
        How far the cost may be from the target, as a share of it.

    Returns
    -------
    dict
        As `Laboratory.run`, with `budget_factor` the factor that was found, `target` the spend aimed at,
        `tries` the runs that it took, and `reached` whether the cost is within the tolerance (a policy can
        run out of queries to spend on, or leap over the target).
    """
    case = laboratory.case(setting, seed)
    target = float(case.budgets.sum())
    reference = laboratory.reference(setting, seed, case)

    def run(factor: float) -> Row:
        return laboratory.run(replace(setting, factor=factor), seed, name)

    best, tries = search(run, setting.factor, target, tolerance)
    return {
        **best,
        "relative": round(100 * best["performance"] / reference, 3) if reference > 0 else None,
        "budget_factor": best["factor"],
        "target": target,
        "tries": tries,
        "reached": abs(best["cost"] - target) <= tolerance * target,
        "x": setting.x,
    }


def search(run: Callable[[float], Row], start: float, target: float, tolerance: float) -> tuple[Row, int]:
    """The row whose cost is nearest to the target, and how many were run for it.

    The factor is doubled until the policy spends enough, then halved in. Spend does not rise evenly with the
    factor where prices rest on few queries: where halving ends beside the target, the factors around the best
    one are scanned, and every place where spend crosses the target is halved in.

    Parameters
    ----------
    run : callable
        A budget factor to a row with "cost" and "factor".
    start : float
        The first factor.
    target : float
        USD.
    tolerance : float
        Share of the target.
    """
    found = _Found(run, target, tolerance)
    low = high = start
    found.at(start)
    while not found.reached and found.at(high) < target and high < _LARGEST * start:
        low, high = high, 2 * high
        found.at(high)
    if found.at(high) >= target:
        found.halve(low, high, _HALVINGS)
    if found.reached or high >= _LARGEST * start:
        return found.best, len(found.rows)
    middle = found.best["factor"]
    around = [float(f) for f in np.linspace(max(start, middle / 1.6), middle * 1.6, _SCANNED)]
    for factor in sorted(around, key=lambda one: abs(one - middle)):
        found.at(factor)
        if found.reached:
            return found.best, len(found.rows)
    for left, right in found.crossings()[:_CROSSINGS]:
        found.halve(left, right, _HALVINGS)
        if found.reached:
            break
    return found.best, len(found.rows)


@dataclass
class _Found:
    """Rows by budget factor."""

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

    def at(self, factor: float) -> float:
        """Cost at a factor, USD."""
        if factor not in self.rows:
            self.rows[factor] = self.run(factor)
        return float(self.rows[factor]["cost"])

    def halve(self, low: float, high: float, times: int) -> None:
        """Halve an interval at whose ends spend is on the two sides of the target."""
        rising = self.at(high) > self.at(low)
        for _ in range(times):
            if self.reached:
                return
            middle = (low + high) / 2
            if (self.at(middle) < self.target) == rising:
                low = middle
            else:
                high = middle

    def crossings(self) -> list[tuple[float, float]]:
        """Neighbouring factors with the target between their costs, the narrowest first."""
        factors = sorted(self.rows)
        pairs = [
            (a, b) for a, b in pairwise(factors) if (self.at(a) < self.target) != (self.at(b) < self.target)
        ]
        return sorted(pairs, key=lambda pair: pair[1] - pair[0])
