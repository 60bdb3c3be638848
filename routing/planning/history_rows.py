"""The history's estimates in the columns of the plan and at today's list prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from routing.arrays import FloatArray
from routing.estimators.base import Estimates
from routing.planning.remaining_mix import RemainingMix
from routing.planning.sample_size import sufficient_samples
from routing.planning.samples import Samples, shuffled
from routing.planning.schedule import PlanningSettings
from routing.policy.alignment import MIN_REPORTED_ANSWERS, reordered
from routing.policy.list_prices import repriced
from routing.policy.plan import Plan


class HistoryRows:
    """The history's rows, and the costs and the mix derived from them.

    Parameters
    ----------
    settings : PlanningSettings
    plan : Plan
        For M LLMs, with the change of their list prices since the history.
    estimates : Estimates or callable, optional
        Leave-one-out estimates of the history, [H, M], at its own list prices. A callable returns them when a
        solve first needs them.
    """

    def __init__(
        self,
        settings: PlanningSettings,
        plan: Plan,
        estimates: Estimates | Callable[[], Estimates] | None,
    ) -> None:
        self._settings, self._models, self._factor = settings, plan.models, plan.cost_factor
        self._load = estimates if callable(estimates) else None
        self._loads_models = plan.models
        self._as_made = None if estimates is None or callable(estimates) else shuffled(estimates)
        self.rows: Estimates | None = None
        """Estimates at today's list prices, in a fixed random order, [H, M]; None until they are loaded."""
        self.mix: RemainingMix | None = None
        """Expected rest of the period, if the settings use it."""
        self._price()
        self.mean_cost: FloatArray = (
            np.ones(len(plan.models)) if self.rows is None else np.ceil(self.rows.cost.mean(0) * 1e12)
        )
        """Picodollars per query, [M]; of the history until the first solve."""
        self.mix = self._new_mix()

    def resume(self, plan: Plan) -> None:
        """Take over the plan of another planner and its mean costs."""
        self.align_to(plan)
        if (costs := plan.solved_from.mean_cost) is not None:
            self.mean_cost = np.array(costs, dtype=np.float64)

    def record_mean_cost(self, estimates: Estimates) -> None:
        """Record the mean cost of the estimates that prices were solved on."""
        self.mean_cost = np.ceil(estimates.cost.mean(0) * 1e12)

    def align_to(self, plan: Plan) -> None:
        """Align rows and costs to the LLMs and list prices of a plan."""
        before, models = self._models, plan.models
        if before != models:
            self._as_made, self.mean_cost = reordered(self._as_made, self.mean_cost, before, models)
            self.mix = None  # Its kinds are based on the LLMs at the start.
        old = self._factor
        self._models, self._factor = models, plan.cost_factor
        if old != self._factor:
            ratios = [self._factor.get(name, 1.0) / (old.get(name) or 1.0) for name in models]
            self.mean_cost = self.mean_cost * ratios
        if before != models or old != self._factor:
            self._price()
            self.mix = None if self.mix is None else self._new_mix()

    def rows_with(self, measured: Mapping[str, Sequence[float]]) -> Estimates | None:
        """Return the rows, with measured values for LLMs that the history does not know.

        Parameters
        ----------
        measured : mapping of str to sequence of float
            As `Plan.measured`.
        """
        if self._load is not None:
            loaded, self._load = shuffled(self._load()), None
            self._as_made, _ = reordered(loaded, self.mean_cost, self._loads_models, self._models)
            self._price()
        rows = self.rows
        if rows is None:
            return None
        comparable = {name: values for name, values in measured.items() if values[0] >= MIN_REPORTED_ANSWERS}
        columns = [self._models.index(name) for name in comparable if name in self._models]
        if not columns:
            return rows
        quality, cost = rows.quality.copy(), rows.cost.copy()
        for column in columns:
            _, quality[:, column], cost[:, column] = comparable[self._models[column]]
        return Estimates(quality, cost, rows.cluster)

    def complete(self, samples: Samples, plan: Plan, *, early: bool = False) -> Estimates:
        """Return the estimates to solve on: the samples, topped up with rows of the history if they are few.

        Parameters
        ----------
        samples : Samples
            At least one.
        plan : Plan
            In force.
        early : bool
            The time limit of the warm-up has passed: rows replace the missing queries.
        """
        s = self._settings
        min_rows = sufficient_samples(int(plan.active.sum())) if s.top_up_samples else 0
        if early:
            min_rows = max(min_rows, s.warmup_queries)
        if s.resolve == "every":
            min_rows = s.resolve_window
        history = self.rows_with(plan.measured) if samples.rows < min_rows else None
        return samples.solver_input(history, min_rows)

    def _price(self) -> None:
        if self._as_made is not None:
            self.rows = repriced(self._as_made, self._models, self._factor)

    def _new_mix(self) -> RemainingMix | None:
        s = self._settings
        if s.mix == "recent" or s.resolve != "every" or s.solver != "newton" or self.rows is None:
            return None
        return RemainingMix(self.rows, s.horizon, s.resolve_window)
