"""List prices of the catalogue and of the history, and the change between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from routing.budgets.catalogue import Catalogue
from routing.estimators.base import Estimates
from routing.policy.plan import Plan

Listed = Mapping[str, Sequence[float | None]]
"""Input and output price by LLM, in USD per million tokens; None if the catalogue has none."""


def list_prices_of(catalogue: Catalogue) -> dict[str, list[float | None]]:
    """Return the list prices of a catalogue."""
    return {model.name: [model.input_price, model.output_price] for model in catalogue.models}


def baseline_prices(listed: Listed, current: Listed) -> dict[str, list[float | None]]:
    """Return the first list price of each LLM, which its history's costs are based on.

    Parameters
    ----------
    listed : mapping of str to (float or None, float or None)
        First prices so far. Removed LLMs keep theirs, because they may return.
    current : mapping of str to (float or None, float or None)
        Current prices. A price that was missing or 0 before becomes the first.

    Examples
    --------
    >>> baseline_prices({"a": [1.0, None]}, {"a": [2.0, 3.0], "b": [4.0, 4.0]})
    {'a': [1.0, 3.0], 'b': [4.0, 4.0]}
    """
    first_prices = {name: list(prices) for name, prices in listed.items()}
    for name, prices in current.items():
        pairs = zip(first_prices.get(name, (None, None)), prices, strict=True)
        first_prices[name] = [old or new for old, new in pairs]
    return first_prices


def cost_factors(now: Listed, history: Listed) -> dict[str, float]:
    """Return the change of list prices since the history, for LLMs whose price has changed.

    Parameters
    ----------
    now, history : mapping of str to (float or None, float or None)
        Current list prices, and those of the history's costs.

    Returns
    -------
    dict of str to float
        The mean of the ratios of input and output price. A missing price gives no ratio.

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
    """List prices of a catalogue and of the history's costs.

    Parameters
    ----------
    now : mapping of str to (float or None, float or None)
    history : mapping of str to (float or None, float or None), optional
        None if the catalogue does not have them: earlier ones stay.
    """

    now: Listed = field(default_factory=dict)
    history: Listed | None = None

    def apply_to(self, plan: Plan) -> Plan:
        """Return the plan with these prices and the same revision."""
        history = self.history
        baseline = (
            baseline_prices(plan.priced_by, self.now) if history is None else baseline_prices(history, {})
        )
        return replace(plan, priced_by=baseline, cost_factor=cost_factors(self.now, baseline))

    def baseline_from(self, plan: Plan | None, version: int) -> dict[str, list[float | None]]:
        """Return the list prices of the history's costs according to the plan in force.

        Parameters
        ----------
        plan : Plan or None
            In force; None if no planner has run yet.
        version : int
            Of the catalogue of these prices.
        """
        if plan is not None and plan.priced_by:
            return plan.priced_by
        if plan is None or plan.catalogue != version:
            return baseline_prices(self.history or {}, self.now)
        # An older planner recorded the factors only.
        return {
            name: [None if price is None else price / (plan.cost_factor.get(name) or 1.0) for price in prices]
            for name, prices in self.now.items()
        }

    def fill_baseline(self, plan: Plan, version: int) -> Plan:
        """Return the plan with the history's list prices, or the same object if it has them."""
        if plan.priced_by or not self.now:
            return plan
        return replace(plan, priced_by=self.baseline_from(plan, version))


def repriced(estimates: Estimates, models: Sequence[str], factor: Mapping[str, float]) -> Estimates:
    """Return estimates, [n, M], at other list prices.

    Examples
    --------
    >>> import numpy as np
    >>> old = Estimates(np.array([[0.1, 0.2]]), np.array([[1.0, 2.0]]))
    >>> repriced(old, ("a", "b"), {"b": 1.5}).cost.tolist()
    [[1.0, 3.0]]
    """
    if not factor:
        return estimates
    return replace(estimates, cost=estimates.cost * [factor.get(name, 1.0) for name in models])
