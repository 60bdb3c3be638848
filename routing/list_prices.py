"""List prices: those that the history's costs are by, and how much dearer LLMs have become since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from routing.catalogue import Catalogue
from routing.estimators.base import Estimates
from routing.plan import Plan

Listed = Mapping[str, Sequence[float | None]]
"""Input and output price by LLM, in USD per million tokens; None where the catalogue has none."""


def listed(catalogue: Catalogue) -> dict[str, list[float | None]]:
    """The prices of a catalogue."""
    return {model.name: [model.input_price, model.output_price] for model in catalogue.models}


def first_listed(known: Listed, now: Listed) -> dict[str, list[float | None]]:
    """The first price that each LLM ever had: an LLM that comes later is priced by what it comes with.

    Parameters
    ----------
    known : mapping of str to (float or None, float or None)
        What was known before. It stays known of LLMs that are removed, for they may come back.
    now : mapping of str to (float or None, float or None)
        A price where there was none, or nothing, is the first that a change can be told from.

    Examples
    --------
    >>> first_listed({"a": [1.0, None]}, {"a": [2.0, 3.0], "b": [4.0, 4.0]})
    {'a': [1.0, 3.0], 'b': [4.0, 4.0]}
    """
    found = {name: list(prices) for name, prices in known.items()}
    for name, prices in now.items():
        pairs = zip(found.get(name, (None, None)), prices, strict=True)
        found[name] = [old or new for old, new in pairs]
    return found


def cost_factors(now: Listed, history: Listed) -> dict[str, float]:
    """By how much an LLM's list price has changed since the history; only LLMs whose price has.

    Parameters
    ----------
    now, history : mapping of str to (float or None, float or None)
        Prices of today, and those that the history's costs are by.

    Returns
    -------
    dict of str to float
        The mean of the ratios of input and output price. Where there was no price, or is none, nothing is
        known of a change.

    Examples
    --------
    >>> cost_factors({"a": [2.0, 3.0], "b": [1.0, 1.0]}, {"a": [1.0, 1.0], "b": [1.0, None]})
    {'a': 2.5}
    """
    factors = {}
    for name, prices in now.items():
        pairs = zip(prices, history.get(name, prices), strict=True)
        ratios = [new / old for new, old in pairs if new is not None and old]
        if ratios and any(ratio != 1.0 for ratio in ratios):
            factors[name] = sum(ratios) / len(ratios)
    return factors


@dataclass(frozen=True)
class PriceChange:
    """A catalogue's list prices, and those that the history's costs are by.

    Parameters
    ----------
    now : mapping of str to (float or None, float or None)
    history : mapping of str to (float or None, float or None), optional
        None where the catalogue does not tell: what was known before stays.
    """

    now: Listed = field(default_factory=dict)
    history: Listed | None = None

    def put_on(self, plan: Plan) -> Plan:
        """The plan with these prices; its revision is the same."""
        told = self.history
        known = first_listed(plan.priced_by, self.now) if told is None else first_listed(told, {})
        return replace(plan, priced_by=known, cost_factor=cost_factors(self.now, known))

    def told_by(self, plan: Plan | None, version: int) -> dict[str, list[float | None]]:
        """The prices that the history's costs are by, as a plan in force tells them.

        Parameters
        ----------
        plan : Plan or None
            In force; None where no planner has run yet.
        version : int
            Of the catalogue that these prices are of.
        """
        if plan is not None and plan.priced_by:
            return plan.priced_by
        if plan is None or plan.catalogue != version:
            return first_listed(self.history or {}, self.now)
        # by an older planner, which wrote down nothing but the factors
        return {
            name: [None if price is None else price / (plan.cost_factor.get(name) or 1.0) for price in prices]
            for name, prices in self.now.items()
        }

    def completed(self, plan: Plan, version: int) -> Plan:
        """The plan, with the history's prices where it lacks them; else the same object."""
        if plan.priced_by or not self.now:
            return plan
        return replace(plan, priced_by=self.told_by(plan, version))


def repriced(estimates: Estimates, models: Sequence[str], factor: Mapping[str, float]) -> Estimates:
    """Estimates, [n, M], at other list prices.

    Examples
    --------
    >>> import numpy as np
    >>> old = Estimates(np.array([[0.1, 0.2]]), np.array([[1.0, 2.0]]))
    >>> repriced(old, ("a", "b"), {"b": 1.5}).cost.tolist()
    [[1.0, 3.0]]
    """
    if not factor:
        return estimates
    return Estimates(estimates.quality, estimates.cost * [factor.get(name, 1.0) for name in models])
