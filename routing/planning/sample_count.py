"""Count of samples since the last restart, which decides when the next solve is due."""

from __future__ import annotations

from dataclasses import replace

from routing.arrays import FloatArray
from routing.planning.schedule import PlanningSettings
from routing.policy.plan import Plan
from routing.policy.price_origin import PriceOrigin

NO_SOLVE_DUE = 2**62
"""Number of queries at which no lane ever waits: the planner does not know yet when the next solve is due."""


class SampleCount:
    """Samples that the planner observed since it last restarted the count.

    A restart begins a period or follows a change of the LLMs. The plan records the count's base and the
    samples of the last solve, so that another planner can take over.

    Parameters
    ----------
    settings : PlanningSettings
    """

    def __init__(self, settings: PlanningSettings) -> None:
        self._settings = settings
        self.observed = 0
        """Samples since the last restart."""
        self.unanchored = False
        """True if the number of queries that were decided before the first sample is still unknown."""

    def resume(self, plan: Plan) -> None:
        """Take over from another planner: its samples since the last restart are observed again."""
        self.observed = 0
        self.unanchored = plan.until == NO_SOLVE_DUE

    def restart(
        self, plan: Plan, arrived: int, mean_cost: FloatArray, now: float, *, amid_period: bool = False
    ) -> Plan:
        """Restart the count and return the plan that records it.

        Amid a period, lanes may be ahead of their last known accounts. Only the first sample under the new
        plan shows where the count begins; until then no lane waits for the next solve.

        Parameters
        ----------
        plan : Plan
            In force.
        arrived : int
            Queries of the period that arrived.
        mean_cost : ndarray of float64, shape [M]
            Picodollars per query.
        now : float
            Time of the change.
        amid_period : bool
            Whether the period began before.
        """
        self.observed = 0
        origin = self._origin(plan, mean_cost, arrived)
        plan = plan.changed(solved_from=origin, created_at=now)
        until = self.until(plan)
        self.unanchored = amid_period and until is not None
        return plan.changed(until=NO_SOLVE_DUE if self.unanchored else until)

    def anchor(self, plan: Plan, samples: int, arrived: int) -> Plan:
        """Return the plan with the base of the count: the first samples are of the last arrived queries."""
        self.unanchored = False
        base = max(0, arrived - samples)
        plan = plan.changed(solved_from=replace(plan.solved_from, base=base))
        return plan.changed(until=self.until(plan))

    def origin_of_solve(self, plan: Plan, mean_cost: FloatArray, rows: int) -> PriceOrigin:
        """Return the origin of prices that were just solved.

        Parameters
        ----------
        plan : Plan
            In force until now.
        mean_cost : ndarray of float64, shape [M]
            Picodollars per query.
        rows : int
            Rows of the linear program.
        """
        last = plan.solved_from
        return replace(
            self._origin(plan, mean_cost, last.base),
            samples_from=last.samples_from,
            observed=self.observed,
            rows=rows,
            from_samples=True,
        )

    def next_solve(self, plan: Plan) -> int | None:
        """Return the count at which the next solve is due; None if no solve follows."""
        return self._settings.next_solve(plan.solved_from.observed, plan.solved_from.base)

    def until(self, plan: Plan) -> int | None:
        """Return the number of queries of the period at which the next solve is due."""
        upcoming = self.next_solve(plan)
        return None if upcoming is None else plan.solved_from.base + upcoming

    def missing(self, plan: Plan) -> int:
        """Return the samples missing until the next solve; `NO_SOLVE_DUE` if no solve follows."""
        upcoming = self.next_solve(plan)
        return NO_SOLVE_DUE if upcoming is None else max(0, upcoming - self.observed)

    def _origin(self, plan: Plan, mean_cost: FloatArray, base: int) -> PriceOrigin:
        return PriceOrigin(
            base=base,
            period=plan.period,
            mean_cost=tuple(mean_cost.tolist()),
            from_samples=plan.solved_from.from_samples,
            solver=self._settings.solver,
            warmup=self._settings.warmup,
        )
