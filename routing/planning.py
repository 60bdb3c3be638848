"""The planner: collects samples, solves for prices when they are due, and hands out rights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from routing.account import Account
from routing.alignment import CLOSED_COST, ENOUGH
from routing.estimators.base import Estimates, FloatArray
from routing.grants import grant
from routing.money import to_pico, to_usd
from routing.newton import newton_prices
from routing.plan import Plan
from routing.prices import solve_lp
from routing.remaining import RemainingMix
from routing.samples import Samples
from routing.schedule import PlanningSettings
from routing.traffic import Traffic

__all__ = ["Planner", "PlanningSettings"]


class Planner:
    """State of the one planner of a cluster; the stream and the simulation drive the same object.

    Parameters
    ----------
    settings : PlanningSettings
    models : sequence of str, length M
        Catalogue order.
    budgets : ndarray of float64, shape [M]
        USD for a period.
    lanes : int
        Partitions of the queries.
    overflow : bool
        There is an overflow lane beside them.
    history : Estimates, optional
        Leave-one-out estimates of the history, [H, M]: needed by warm-up "history" and by "every".
    clock : callable
        Gives `created_at` of plans; the stream passes the time, the simulation nothing.
    """

    def __init__(
        self,
        settings: PlanningSettings,
        models: tuple[str, ...],
        budgets: FloatArray,
        *,
        lanes: int = 1,
        overflow: bool = False,
        history: Estimates | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        if settings.warmup == "history" and history is None:
            raise ValueError("warmup: 'history' needs the history's leave-one-out estimates")
        self.settings, self.lanes, self.overflow, self.clock = settings, lanes, overflow, clock
        self.history = _shuffled(history)
        self.mix = self._new_mix()
        self._samples = Samples(settings)
        self.traffic = Traffic(lanes, settings.horizon)
        rows = lanes + overflow
        self.seen = [Account.fresh(1, len(models)) for _ in range(rows)]
        self.observed = 0
        none = np.zeros((rows, len(models)), dtype=np.int64)
        self.plan = Plan(
            period=0, version=0, revision=0, models=tuple(models), active=np.ones(len(models), dtype=bool),
            budgets=to_pico(budgets), prices=np.zeros(len(models)), learned=False, granted=none, target=none,
            overflow=overflow, horizon=settings.horizon,
        )  # fmt: skip
        self.mean_cost = np.ones(len(models)) if history is None else np.ceil(history.cost.mean(0) * 1e12)

    # ---- periods -----------------------------------------------------------------------------------------

    def start_period(self) -> Plan:
        """Begin the next period: fresh grants, no samples, the last prices until new ones are learned."""
        models = len(self.plan.models)
        self.observed = 0
        self._forget()
        self.traffic.start_period()
        self.seen = [Account.fresh(self.plan.period + 1, models) for _ in self.seen]
        none = np.zeros((len(self.seen), models), dtype=np.int64)
        now = self.clock()
        self.plan = self.plan.changed(
            period=self.plan.period + 1, granted=none, target=none, created_at=now, began_at=now
        )
        if self.settings.warmup == "history":
            self._price_from_history()
        self._restart()
        return self.hand_out()

    def resume(self, plan: Plan) -> None:
        """Take over from another planner: its last plan is in force; samples since are observed again."""
        self._fit_columns(self.plan.models, plan.models)
        if (costs := plan.solved_from.get("mean_cost")) is not None:
            self.mean_cost = np.array(costs, dtype=np.float64)
        self.plan = plan
        self.seen = [Account.fresh(plan.period, len(plan.models)) for _ in self.seen]
        self.observed = 0
        self.traffic.resume()
        self._forget()

    def apply_catalogue(
        self,
        version: int,
        models: tuple[str, ...],
        budgets: FloatArray,
        cost_factor: dict[str, float] | None = None,
    ) -> Plan:
        """Another catalogue: LLMs are added at the end, those not in it any more are closed.

        Parameters
        ----------
        version : int
            Of the catalogue.
        models : tuple of str
            All LLMs of the catalogue.
        budgets : ndarray of float64, shape [len(models)]
            USD a period. A lower one binds at once: what lanes hold beyond it they give back.
        cost_factor : dict of str to float, optional
            How much list prices have changed since the history.
        """
        plan = self.plan
        names = plan.models + tuple(name for name in models if name not in plan.models)
        more = len(names) - len(plan.models)
        wanted = {name: int(amount) for name, amount in zip(models, to_pico(budgets), strict=True)}
        rows = np.zeros((len(plan.granted), more), dtype=np.int64)
        self.plan = plan.changed(
            models=names,
            active=np.array([name in wanted for name in names]),
            budgets=np.array(
                [
                    wanted.get(name, int(old))
                    for name, old in zip(names, [*plan.budgets, *rows[0]], strict=True)
                ],
                dtype=np.int64,
            ),
            prices=np.concatenate([plan.prices, self._first_prices(more)]),
            granted=np.hstack([plan.granted, rows]),
            target=np.hstack([plan.target, rows]),
            catalogue=version,
            cost_factor=cost_factor or {},
            created_at=self.clock(),
        )
        self.seen = [account.widened(len(names)) for account in self.seen]
        self._fit_columns(plan.models, names)
        # samples of before know nothing of the change: new prices are learned as at the start of a period
        self._forget()
        self._restart()
        return self.hand_out()

    def _fit_columns(self, before: tuple[str, ...], names: tuple[str, ...]) -> None:
        """History and mean costs in the order of other LLMs; what is not known of one stays closed."""
        if before == names:
            return
        where = {name: number for number, name in enumerate(before)}
        columns = np.array([where.get(name, -1) for name in names], dtype=np.intp)
        known = columns >= 0
        self.mean_cost = np.where(known, self.mean_cost[columns], self.mean_cost.mean())
        if self.history is not None:
            self.history = Estimates(
                np.where(known, self.history.quality[:, columns], 0.0),
                np.where(known, self.history.cost[:, columns], CLOSED_COST),
            )
        self.mix = None  # kinds are made of the estimates of the LLMs that were known at the start

    def _first_prices(self, more: int) -> FloatArray:
        """Of LLMs that were added: a query costs as much quality as it does on the others, on average."""
        worth = float((self.plan.prices * self.mean_cost).mean()) if len(self.plan.prices) else 0.0
        return np.full(more, worth / max(float(self.mean_cost.mean()), 1.0))

    def _restart(self) -> None:
        """Count samples from here on."""
        self.observed = 0
        self.plan = self.plan.changed(solved_from=self._origin(), created_at=self.clock())
        self.plan = self.plan.changed(until=self._until())

    def measure(self, measured: dict[str, list[float]]) -> Plan:
        """What outcomes say of LLMs without a history; the same plan object when nothing changes."""
        if measured != self.plan.measured:
            before = {name for name, (answers, *_) in self.plan.measured.items() if answers >= ENOUGH}
            now = {name for name, (answers, *_) in measured.items() if answers >= ENOUGH}
            self.plan = self.plan.changed(measured=measured, created_at=self.clock())
            if now - before:
                # an LLM that can be compared from now on: its price is learned with the others'
                self._forget()
                self._restart()
        return self.plan

    # ---- what lanes report -------------------------------------------------------------------------------

    def observe(self, estimates: Estimates) -> list[Plan]:
        """Take in samples, [n, M], in the order of the samples' log; returns the plans they led to.

        A solve never sees a sample beyond the one that made it due, however samples come in batches.
        """
        self._samples.hold(estimates)
        return self.catch_up()

    def catch_up(self) -> list[Plan]:
        """Take in the samples that are held, as far as solves that are due later allow; as `observe`.

        Lanes that wait send samples of many more queries than the first solve needs. They are held: a later
        solve is due when so many queries were decided, whose charges it then knows.
        """
        plans: list[Plan] = []
        while True:
            while (estimates := self._samples.take(self.missing_samples)) is not None:
                self._store(estimates)
            if (plan := self.solve()) is None:
                return plans
            plans.append(plan)

    def _store(self, estimates: Estimates) -> None:
        self.observed += len(estimates)
        if self._next_solve() is None:
            return
        if self.mix is not None:
            self.mix.observe(estimates)
        self._samples.keep(estimates)

    def see(self, lane: int, account: Account) -> None:
        """Take in a lane's account; older periods and older states are ignored."""
        if account.period != self.plan.period:
            return
        if lane < self.lanes and not self.traffic.see(lane, account.arrived):
            return
        self.seen[lane] = account.widened(len(self.plan.models))

    @property
    def arrived(self) -> int:
        """Queries of this period that the lanes took in, as last seen."""
        return self.traffic.arrived

    @property
    def decided(self) -> int:
        """Of those the ones that are decided; deferred ones are once the overflow lane came to them.

        Those of the last period that the overflow lane decided in this one count too: it paid for them.
        """
        lanes, pool = self.seen[: self.lanes], self.seen[self.lanes :]
        return sum(one.arrived - one.deferred for one in lanes) + sum(one.arrived for one in pool)

    @property
    def missing_samples(self) -> int:
        """Samples still to come before the next solve; 0 when it is due, a large number when none will be."""
        upcoming = self._next_solve()
        return 2**62 if upcoming is None else max(0, upcoming - self.observed)

    # ---- prices ------------------------------------------------------------------------------------------

    def solve(self, *, early: bool = False) -> Plan | None:
        """Solve for new prices when they are due; None when they are not.

        Parameters
        ----------
        early : bool
            The time limit of the warm-up has passed: solve on what there is.

        Notes
        -----
        Prices are the dual values of the linear program on the m sampled queries with budgets
        B_left m / (N - t), t queries having been decided: (n / N) B at the first solve of the paper.
        """
        upcoming = self._next_solve()
        if upcoming is None or (self.observed < upcoming and not (early and self._samples.rows)):
            return None
        if self.plan.learned and self.decided < int(self.plan.solved_from.get("base", 0)) + upcoming:
            return None
        at = self.observed
        estimates, weights = self._samples.to_solve_on(self.history), None
        if self.mix is not None and self.plan.learned:
            estimates, weights = self.mix.rows, self.mix.weights()
        spent = sum((account.charged for account in self.seen), np.zeros(len(self.plan.models), np.int64))
        left = to_usd(np.maximum(self.plan.budgets - spent, 0))
        # what waits for the overflow lane is not paid for yet, so it is still to come
        horizon = max(1, self.plan.horizon - self.decided)
        stands_for = len(estimates) if weights is None else float(weights.sum())
        prices = self.prices(estimates, left * (stands_for / horizon), weights)
        self.mean_cost = np.ceil(estimates.cost.mean(0) * 1e12)
        self.plan = self.plan.changed(
            version=self.plan.version + 1, prices=prices, learned=True, created_at=self.clock()
        )
        origin = self._origin(observed=at, rows=len(estimates))
        self.plan = self.plan.changed(solved_from=origin)
        self.plan = self.plan.changed(until=self._until())
        if self.settings.resolve == "once":
            self._forget()
        return self.plan

    def prices(
        self, estimates: Estimates, budgets: FloatArray, weights: FloatArray | None = None
    ) -> FloatArray:
        """Dual prices by the solver in the settings; closed LLMs are left out. Shape [M]."""
        budgets = np.where(self.plan.active, budgets, 0.0)
        if self.settings.solver == "exact":
            return solve_lp(estimates.quality, estimates.cost, budgets).prices
        start = self.plan.prices if self.plan.version else None
        floor = 1e-9 * np.maximum(to_usd(self.plan.budgets), 1e-12)
        funds = np.maximum(budgets, floor)
        return newton_prices(estimates.quality, estimates.cost, funds, start=start, weights=weights)

    def hand_out(self) -> Plan:
        """Grant rights on what was last seen of the lanes; the same plan object when nothing changes.

        To be called at regular looks: how many of them the period still has decides who holds the rights.
        """
        self.traffic.count()
        grants = grant(
            np.where(self.plan.active, self.plan.budgets, 0),
            self.plan.granted,
            np.stack([account.released for account in self.seen]),
            np.stack([account.charged for account in self.seen]),
            self.traffic.recent,
            self.mean_cost,
            overflow=self.overflow,
            looks_left=self.traffic.looks_left,
        )
        if not (
            np.array_equal(grants.granted, self.plan.granted)
            and np.array_equal(grants.target, self.plan.target)
        ):
            self.plan = self.plan.changed(
                granted=grants.granted, target=grants.target, created_at=self.clock()
            )
        return self.plan

    # ---- inside ------------------------------------------------------------------------------------------

    def _next_solve(self) -> int | None:
        """Samples since the last restart at which the next solve is due; None when no other will be."""
        origin = self.plan.solved_from
        return self.settings.next_solve(int(origin.get("observed", 0)), int(origin.get("base", 0)))

    def _until(self) -> int | None:
        """Queries of the period at which the next solve is due."""
        upcoming = self._next_solve()
        return None if upcoming is None else int(self.plan.solved_from.get("base", 0)) + upcoming

    def _origin(self, observed: int = 0, rows: int = 0) -> dict[str, object]:
        where = self.plan.solved_from.get("samples_from") if observed else None
        return {
            "base": int(self.plan.solved_from.get("base", 0)) if observed else self.arrived,
            "samples_from": where,
            "period": self.plan.period,
            "observed": observed,
            "rows": rows,
            "mean_cost": self.mean_cost.tolist(),
            "solver": self.settings.solver,
            "warmup": self.settings.warmup,
        }

    def _forget(self) -> None:
        self._samples.forget()
        if self.mix is not None:
            self.mix.reset()

    def _new_mix(self) -> RemainingMix | None:
        s = self.settings
        if s.mix == "recent" or s.resolve != "every" or s.solver != "newton" or self.history is None:
            return None
        return RemainingMix(self.history, s.horizon, s.resolve_window)

    def _price_from_history(self) -> None:
        """Plan 0: prices of the whole history, its budgets in proportion."""
        if self.history is None:
            raise ValueError("warmup: 'history' needs the history's leave-one-out estimates")
        scale = len(self.history) / self.plan.horizon
        prices = self.prices(self.history, to_usd(self.plan.budgets) * scale)
        self.plan = self.plan.changed(version=self.plan.version + 1, prices=prices, learned=True)


def _shuffled(history: Estimates | None) -> Estimates | None:
    """In a fixed random order, so that its first rows stand for all of it."""
    if history is None:
        return None
    order = np.random.default_rng(0).permutation(len(history))
    return history.rows(order)
