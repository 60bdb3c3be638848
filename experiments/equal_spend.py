"""Policies at equal spend: each policy's budget factor is tuned until it spends what all shall spend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.running import Laboratory, Setting

_STEPS = 12


def at_equal_spend(
    laboratory: Laboratory, setting: Setting, seed: int, name: str, tolerance: float = 0.01
) -> dict[str, Any]:
    """The row of a policy whose cost is the setting's budget, within a share of it.

    A policy that spends less than its budget gets a larger one; how much larger is found by bisection on the
    budget factor. What is told as `relative` is still against the approximate optimum at the setting's own
    factor.

    Parameters
    ----------
    tolerance : float
        How far the cost may be from the target, as a share of it.

    Returns
    -------
    dict
        As `Laboratory.run`, with `budget_factor` the factor that was found, `target` the spend aimed at, and
        `reached` whether the cost is within the tolerance (a policy can run out of queries to spend on).
    """
    case = laboratory.case(setting, seed)
    target = float(case.budgets.sum())
    reference = laboratory.reference(setting, seed, case)
    low, high = 0.0, setting.factor
    row = laboratory.run(setting, seed, name)
    best = row
    for _ in range(_STEPS):
        if row["cost"] > target * (1 + tolerance):
            high = row["factor"]
        elif row["cost"] < target * (1 - tolerance):
            if row["factor"] >= high:
                low, high = row["factor"], 2 * row["factor"]
            else:
                low = row["factor"]
        else:
            break
        factor = high if row["factor"] == low and high == 2 * low else (low + high) / 2
        row = laboratory.run(replace(setting, factor=factor), seed, name)
        if abs(row["cost"] - target) < abs(best["cost"] - target):
            best = row
        if factor > 64 * setting.factor:
            break
    return {
        **best,
        "relative": round(100 * best["performance"] / reference, 3) if reference > 0 else None,
        "budget_factor": best["factor"],
        "target": target,
        "reached": abs(best["cost"] - target) <= tolerance * target,
        "x": setting.x,
    }
