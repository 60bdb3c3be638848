"""The planner: collects samples, solves for prices when they are due, and hands out rights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from routing.account import Account
from routing.alignment import ENOUGH
from routing.estimators.base import Estimates, FloatArray
from routing.grants import grant
from routing.list_prices import PriceChange
from routing.money import to_pico, to_usd
from routing.newton import newton_prices
from routing.plan import Plan
from routing.planned_history import PlannedHistory
from routing.prices import solve_lp
from routing.samples import Samples
from routing.schedule import PlanningSettings
from routing.traffic import Traffic

__all__ = ["Planner", "PlanningSettings"]

FAR = 2**62
"""Queries after which nobody stops: where the next solve is due is not known yet."""


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
    catalogue : int
        Version of the catalogue that has these LLMs.
    list_prices : PriceChange
        That catalogue's, and the history's.
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
        catalogue: int = 0,
        list_prices: PriceChange = PriceChange(),  # noqa: B008
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        if settings.warmup == "history" and history is None:
            raise ValueError("warmup: 'history' needs the history's leave-one-out estimates")
        self.settings, self.lanes, self.overflow, self.clock = settings, lanes, overflow, clock
        self._list_prices = list_prices
        self._samples = Samples(settings)
        self.traffic = Traffic(lanes, settings.horizon)
        rows = lanes + overflow
        self.seen = [Account.fresh(1, len(models)) for _ in range(rows)]
        self.observed = 0
        self._adrift = False
        none = np.zeros((rows, len(models)), dtype=np.int64)
        self.plan = Plan(
            period=0, version=0, revision=0, models=tuple(models), active=np.ones(len(models), dtype=bool),
            budgets=to_pico(budgets), prices=np.zeros(len(models)), learned=False, granted=none, target=none,
            overflow=overflow, horizon=settings.horizon, catalogue=catalogue,
        )  # fmt: skip
        self.plan = list_prices.put_on(self.plan)
        self.past = PlannedHistory(settings, self.plan, history)

    # ---- periods -----------------------------------------------------------------------------------------

    def start_period(self) -> Plan:
        """Begin the next period: fresh grants, no samples, the last prices until new ones are learned."""
        self.observed = 0
        self._forget()
        self.traffic.start_period()
        self.seen = [Account.fresh(self.plan.period + 1, len(self.plan.models)) for _ in self.seen]
        none = np.zeros_like(self.plan.granted)
        now = self.clock()
        self.plan = self.plan.changed(
            period=self.plan.period + 1, granted=none, target=none, created_at=now, began_at=now,
            # what an LLM that was removed could have spent is no business of this period's bill
            budgets=np.where(self.plan.active, self.plan.budgets, 0),
        )  # fmt: skip
        if self.settings.warmup == "history" and not self._learned_from_samples:
            self._price_from_history()
        self._restart()
        return self.hand_out()

    def resume(self, plan: Plan) -> None:
        """Take over from another planner: its last plan is in force; samples since are observed again."""
        self.plan = plan = self._list_prices.completed(plan, self.plan.catalogue)
        self.past.resume(plan)
        self._adrift = plan.until == FAR
        self.seen = [Account.fresh(plan.period, len(plan.models)) for _ in self.seen]
        self.observed = 0
        self.traffic.resume()
        self._forget()

    def apply_catalogue(
        self,
        version: int,
        models: tuple[str, ...],
        budgets: FloatArray,
        list_prices: PriceChange = PriceChange(),  # noqa: B008
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
        list_prices : PriceChange
            Its own, and the history's where they come with it.
        """
        wanted = {name: int(amount) for name, amount in zip(models, to_pico(budgets), strict=True)}
        plan = self.plan.for_llms(wanted, self._first_price())
        self.plan = list_prices.put_on(plan).changed(catalogue=version, created_at=self.clock())
        self.seen = [account.widened(len(self.plan.models)) for account in self.seen]
        self.past.fit(self.plan)
        # samples of before know nothing of the change: new prices are learned as at the start of a period
        self._forget()
        self._restart(amid=True)
        return self.hand_out()

    def _first_price(self) -> float:
        """Of LLMs that are added: a query costs as much quality as it does on the others, on average."""
        costs = self.past.mean_cost
        return float((self.plan.prices * costs).mean()) / max(float(costs.mean()), 1.0)

    def _restart(self, *, amid: bool = False) -> None:
        """Count samples from here on.

        Amid a period lanes may have come further than was seen, so nothing but the first sample under the
        new plan can say where the count begins; until then nobody stops for the next solve.
        """
        self.observed = 0
        self.plan = self.plan.changed(solved_from=self._origin(), created_at=self.clock())
        until = self._until()
        self._adrift = amid and until is not None
        self.plan = self.plan.changed(until=FAR if self._adrift else until)

    def _anchor(self, samples: int) -> None:
        """The first samples since a restart amid a period: of the last queries that were seen to arrive."""
        self._adrift = False
        base = max(0, self.arrived - samples)
        self.plan = self.plan.changed(solved_from={**self.plan.solved_from, "base": base})
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
                self._restart(amid=True)
        return self.plan

    # ---- what lanes report -------------------------------------------------------------------------------

    def observe(self, estimates: Estimates) -> list[Plan]:
        """Take in samples, [n, M], in the order of the samples' log; returns the plans they led to.

        A solve never sees a sample beyond the one that made it due, however samples come in batches.
        """
        if self._adrift and len(estimates):
            self._anchor(len(estimates))
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
        if self.past.mix is not None:
            self.past.mix.observe(estimates)
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

        Those of the last period that the overflow lane decided in this one count too: it paid for them. One
        that it refused is done with as well.
        """
        lanes, pool = self.seen[: self.lanes], self.seen[self.lanes :]
        return sum(one.arrived - one.deferred for one in lanes) + sum(one.arrived + one.dead for one in pool)

    @property
    def waiting(self) -> float:
        """Queries that those were chosen from that wait for the overflow lane.

        Lanes pass on only what is worth an LLM. To count that as queries of any kind would make the rest of
        a budget look larger than it is, the more the longer the overflow lane's queue.
        """
        lanes = self.seen[: self.lanes]
        found_worthless = sum(one.unserved for one in lanes) / max(1, sum(one.arrived for one in lanes))
        return max(0, self.arrived - self.decided) / max(0.05, 1 - found_worthless)

    @property
    def to_come(self) -> float:
        """Queries that the period will still bring, as far as is known."""
        return self.settings.still_to_arrive(self.arrived, self.clock() - self.plan.began_at)

    @property
    def ahead(self) -> float:
        """Share of the undecided queries that lanes may hold money for.

        Those that are still to come, and at first no more than have come so far: slow traffic and slow news
        of it look the same, and rights that are on their way when a burst is over are nobody's.
        """
        return min(self.to_come, self.arrived) / max(1e-9, self.to_come + self.waiting)

    @property
    def looks_left(self) -> float:
        """Looks like the last ones until the rest of the period has come; 0 before anything is known."""
        return self.traffic.looks_left(self.to_come)

    @property
    def held(self) -> int:
        """Samples that wait for queries to be decided, which a later solve is due after."""
        return self._samples.held

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
        B_left m / (N - t), t queries having been decided: (n / N) B at the first solve of the paper. In a
        period that ends by time, N - t is what its rate and the time left say.
        """
        upcoming = self._next_solve()
        if upcoming is None or (self.observed < upcoming and not (early and self._samples.rows)):
            return None
        if self.plan.learned and self.decided < int(self.plan.solved_from.get("base", 0)) + upcoming:
            return None
        estimates, weights = self._samples.to_solve_on(self.past.rows), None
        if self.past.mix is not None and self.plan.learned:
            estimates, weights = self.past.mix.rows, self.past.mix.weights()
        spent = sum((account.charged for account in self.seen), np.zeros(len(self.plan.models), np.int64))
        left = to_usd(np.maximum(self.plan.budgets - spent, 0))
        # what waits for the overflow lane is not paid for yet, so it is still to come
        horizon = max(1.0, self.to_come + self.waiting)
        stands_for = len(estimates) if weights is None else float(weights.sum())
        prices = self.prices(estimates, left * (stands_for / horizon), weights)
        self.past.mean_cost = np.ceil(estimates.cost.mean(0) * 1e12)
        self.plan = self.plan.changed(
            version=self.plan.version + 1, prices=prices, learned=True, created_at=self.clock(),
            solved_from=self._origin(observed=self.observed, rows=len(estimates)),
        )  # fmt: skip
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

    def hurried(self, looks: float) -> bool:
        """More has arrived since rights were handed out than a look is meant for, `looks` to the end."""
        return self.traffic.uncounted > self.to_come / looks

    def hand_out(self) -> Plan:
        """Grant rights on what was last seen of the lanes; the same plan object when little would change.

        To be called at regular looks: how many of them the period still has decides who holds the rights.
        """
        self.traffic.count()
        grants = grant(
            np.where(self.plan.active, self.plan.budgets, 0),
            self.plan.granted,
            np.stack([account.released for account in self.seen]),
            np.stack([account.charged for account in self.seen]),
            self.traffic.recent,
            self.past.mean_cost,
            overflow=self.overflow,
            looks_left=self.looks_left,
            ahead=self.ahead,
        )
        if grants.moved(self.plan.granted, self.plan.target):
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
            "mean_cost": self.past.mean_cost.tolist(),
            "from_samples": bool(observed) or self._learned_from_samples,
            "solver": self.settings.solver,
            "warmup": self.settings.warmup,
        }

    @property
    def _learned_from_samples(self) -> bool:
        """The prices in force are what queries taught, in this period or one before."""
        return bool(self.plan.solved_from.get("from_samples"))

    def _forget(self) -> None:
        self._samples.forget()
        if self.past.mix is not None:
            self.past.mix.reset()

    def _price_from_history(self) -> None:
        """Plan 0: prices of the whole history, its budgets in proportion."""
        rows = self.past.rows
        assert rows is not None, "the constructor sees to it"
        prices = self.prices(rows, to_usd(self.plan.budgets) * (len(rows) / self.plan.horizon))
        self.plan = self.plan.changed(version=self.plan.version + 1, prices=prices, learned=True)
