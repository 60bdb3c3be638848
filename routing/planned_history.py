"""What the history tells the planner, in the columns of its plan and at the prices of today."""

from __future__ import annotations

import numpy as np

from routing.alignment import reordered
from routing.estimators.base import Estimates, FloatArray
from routing.list_prices import repriced
from routing.plan import Plan
from routing.remaining import RemainingMix
from routing.samples import shuffled
from routing.schedule import PlanningSettings


class PlannedHistory:
    """The history's rows, and what rests on them.

    Parameters
    ----------
    settings : PlanningSettings
    plan : Plan
        For M LLMs; says by how much their prices have changed since the history.
    estimates : Estimates, optional
        Leave-one-out estimates of the history, [H, M], at the prices that it was made at.
    """

    def __init__(self, settings: PlanningSettings, plan: Plan, estimates: Estimates | None) -> None:
        self._settings, self._models, self._factor = settings, plan.models, plan.cost_factor
        self._as_made = None if estimates is None else shuffled(estimates)
        self.rows: Estimates | None = None
        """Estimates at the prices of today, in a fixed random order; [H, M]."""
        self.mix: RemainingMix | None = None
        """What is still to come of a period, where the settings ask for it."""
        self._price()
        self.mean_cost: FloatArray = (
            np.ones(len(plan.models)) if self.rows is None else np.ceil(self.rows.cost.mean(0) * 1e12)
        )
        """Picodollars a query, [M]: of the history until the planner knows better."""
        self.mix = self._new_mix()

    def resume(self, plan: Plan) -> None:
        """Another planner's plan: what it knew of costs is in it."""
        self.fit(plan)
        if (costs := plan.solved_from.get("mean_cost")) is not None:
            self.mean_cost = np.array(costs, dtype=np.float64)

    def fit(self, plan: Plan) -> None:
        """Another plan: its columns, its prices."""
        before, models = self._models, plan.models
        if before != models:
            self._as_made, self.mean_cost = reordered(self._as_made, self.mean_cost, before, models)
            self.mix = None  # kinds are made of the estimates of the LLMs that were known at the start
        old = self._factor
        self._models, self._factor = models, plan.cost_factor
        if old != self._factor:
            ratios = [self._factor.get(name, 1.0) / (old.get(name) or 1.0) for name in models]
            self.mean_cost = self.mean_cost * ratios
        if before != models or old != self._factor:
            self._price()
            self.mix = None if self.mix is None else self._new_mix()

    def _price(self) -> None:
        if self._as_made is not None:
            self.rows = repriced(self._as_made, self._models, self._factor)

    def _new_mix(self) -> RemainingMix | None:
        s = self._settings
        if s.mix == "recent" or s.resolve != "every" or s.solver != "newton" or self.rows is None:
            return None
        return RemainingMix(self.rows, s.horizon, s.resolve_window)
