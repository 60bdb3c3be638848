"""The planner: collects samples, solves for prices when a solve is due, and grants budgets to lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from routing.budgets.cost_quantile import Offsets
from routing.budgets.grants import CounterShares, grant
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.feedback.plan_correction import Evidence
from routing.planning.counter_limits import RateRefill, mean_draws, unfilled_rates
from routing.planning.counter_plans import Budgets, counters_of, for_catalogue, new_period, with_top_ups
from routing.planning.counter_prices import shares_of
from routing.planning.history_rows import HistoryRows
from routing.planning.planner_view import PlannerView
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.alignment import comparable_llms
from routing.policy.list_prices import PriceChange
from routing.policy.pause import Pause
from routing.policy.plan import Plan

NO_TERMS = QueryTerms()


class Planner(PlannerView):
    """State of the one planner of a cluster; the stream and the simulation drive the same object.

    Only its methods change its state. Plans are frozen.

    Parameters
    ----------
    settings : PlanningSettings
    models : sequence of str, length M
        Catalogue order.
    budgets : ndarray of float64, shape [M], or sequence of Budget
        USD of every LLM for a period, or budgets of any kind.
    lanes : int
        Partitions of the queries.
    overflow : bool
        Whether there is an overflow lane beside them.
    history : Estimates or callable, optional
        Leave-one-out estimates of the history, [H, M], or a callable that loads them when few samples are
        topped up. Warm-up "history" and resolve "every" need them at once.
    catalogue : int
        Version of the catalogue that has these LLMs.
    list_prices : PriceChange
        List prices of that catalogue and of the history.
    clock : callable
        Returns `created_at` of plans; the stream passes the time, the simulation nothing.
    """

    def __init__(
        self,
        settings: PlanningSettings,
        models: tuple[str, ...],
        budgets: Budgets,
        *,
        lanes: int = 1,
        overflow: bool = False,
        history: Estimates | Callable[[], Estimates] | None = None,
        catalogue: int = 0,
        list_prices: PriceChange = PriceChange(),  # noqa: B008
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        if settings.warmup == "history" and history is None:
            raise ValueError("warmup: 'history' needs the history's leave-one-out estimates")
        self._overflow, self._list_prices, self._refill = overflow, list_prices, RateRefill()
        counters, limits = counters_of(tuple(models), budgets)
        none = np.zeros((lanes + overflow, len(counters)), dtype=np.int64)
        plan = Plan(
            period=0,
            version=0,
            revision=0,
            models=tuple(models),
            active=np.ones(len(models), dtype=bool),
            budgets=limits,
            prices=np.zeros(len(counters)),
            learned=False,
            granted=none,
            target=none,
            overflow=overflow,
            horizon=settings.horizon,
            catalogue=catalogue,
            counters=counters,
            open=np.ones(len(counters), dtype=bool),
        )
        super().__init__(settings, list_prices.apply_to(plan), lanes, overflow, clock)
        self.history_rows = HistoryRows(settings, self._plan, history)

    def _now(self) -> float:
        """Return the time, never before that of the plan: the next planner refills rates from there."""
        return max(self._clock(), self._plan.created_at, self._refill.at)

    # ---- periods and catalogues --------------------------------------------------------------------------

    def start_period(self, billed: int | None = None) -> Plan:
        """Begin the next period: empty grants, no samples, the last prices until new ones are learned.

        Parameters
        ----------
        billed : int, optional
            Last period whose bill is final; by default as in the last plan.
        """
        self._forget_samples()
        now, ended = self._now(), self._plan.ends_at
        if self.settings.calendar is not None and ended is not None:
            now = max(now, ended)  # a clock that was set back must not begin the same day again
        # A value of a rate that is not full yet stays: as a new value it would begin with its burst again.
        carried = self._lanes.used_values() + unfilled_rates(self._plan, self._lanes.charged.sum(0))
        settings = self.settings
        plan = new_period(self._plan, carried, now, settings.period_end(now), settings.queries_from(now))
        self._plan = replace(plan, billed=plan.billed if billed is None else billed)
        self._refill.restart(now)
        self._lanes.start_period(plan.period, len(plan.models), self._counters)
        if self.settings.warmup == "history" and not self._plan.solved_from.from_samples:
            self._price_from_history()
        self._restart_count()
        return self.update_grants()

    def resume(self, plan: Plan) -> None:
        """Take over from another planner whose last plan is in force; later samples are observed again."""
        self._plan = plan = self._list_prices.fill_baseline(plan, self._plan.catalogue)
        self.history_rows.resume(plan)
        self._count.resume(plan)
        self._lanes.resume(plan.period, len(plan.models), self._counters)
        self._refill.restart(plan.created_at)
        self._forget_samples()

    def apply_catalogue(
        self,
        version: int,
        models: tuple[str, ...],
        budgets: Budgets,
        list_prices: PriceChange = PriceChange(),  # noqa: B008
    ) -> Plan:
        """Apply another catalogue: new LLMs are added at the end, LLMs missing from it are closed.

        Parameters
        ----------
        version : int
            Of the catalogue.
        models : tuple of str
            All LLMs of the catalogue.
        budgets : ndarray of float64, shape [len(models)], or sequence of Budget
            As in the constructor. A lower budget applies at once: lanes give back grants beyond it.
        list_prices : PriceChange
            The catalogue's list prices, and the history's if they come with it.
        """
        plan = for_catalogue(self._plan, models, budgets, self._price_of_new_models())
        self._plan = list_prices.apply_to(plan).changed(catalogue=version, created_at=self._now())
        self._lanes.widen(len(self._plan.models), self._counters)
        self.history_rows.align_to(self._plan)
        # Earlier samples do not reflect the change: new prices are learned as at the start of a period.
        self._forget_samples()
        self._restart_count(amid_period=True)
        return self.update_grants()

    def _price_of_new_models(self) -> float:
        """Return the price at which a query costs the average quality that it costs on the other LLMs."""
        costs = self.history_rows.mean_cost
        if not self._plan.per_llm:
            return 0.0
        return float((self._plan.prices * costs).mean()) / max(float(costs.mean()), 1.0)

    def top_up(self, amounts: Mapping[str, int]) -> None:
        """Raise limits for the rest of the period; prices are learned again.

        Parameters
        ----------
        amounts : mapping of str to int
            As in `with_top_ups`: totals of the period, so that a call with the same amounts changes nothing.
        """
        plan = with_top_ups(self._plan, amounts)
        if plan is self._plan:
            return
        self._plan = replace(plan, created_at=self._now())
        if plan.learned:
            self._forget_samples()
            self._restart_count(amid_period=True)
        self.update_grants()

    def record_measurements(self, measured: dict[str, list[float]]) -> Plan:
        """Record measurements of LLMs without a history; return the same plan if nothing changed."""
        if measured != self._plan.measured:
            newly_comparable = comparable_llms(measured) - comparable_llms(self._plan.measured)
            self._plan = self._plan.changed(measured=measured, created_at=self._now())
            if newly_comparable:
                # The price of an LLM that has become comparable is learned together with the others'.
                self._forget_samples()
                self._restart_count(amid_period=True)
        return self._plan

    def pause(self, paused: Mapping[str, Pause]) -> None:
        """Record pauses; if other LLMs are paused than before, prices are learned again, without them."""
        before, self._plan = self._plan, self._plan.changed(paused=paused, created_at=self._now())
        if before.learned and paused.keys() != before.paused.keys():
            self._forget_samples()
            self._restart_count(amid_period=True)

    def record_correction(self, evidence: Evidence, clusters: str) -> None:
        """Record the correction by reported quality, and the digest of its task clusters."""
        self._plan = self._plan.changed(correction=evidence, clusters=clusters, created_at=self._now())

    def record_reserve_offsets(self, offsets: Offsets) -> None:
        """Record the corrections of the reserved quantile of the cost."""
        self._plan = self._plan.changed(reserve_offsets=offsets, created_at=self._now())

    def record_samples_start(self, samples_from: int, warmup_seconds: float) -> Plan:
        """Record the offset of the period's first sample in the plan, which keeps its revision.

        Parameters
        ----------
        samples_from : int
            Offset in the topic of samples.
        warmup_seconds : float
            Longest wait for prices after the first sample.
        """
        origin = replace(self._plan.solved_from, samples_from=samples_from, warmup_seconds=warmup_seconds)
        self._plan = replace(self._plan, solved_from=origin)
        return self._plan

    # ---- samples and accounts ----------------------------------------------------------------------------

    def observe(self, estimates: Estimates, terms: QueryTerms = NO_TERMS) -> list[Plan]:
        """Observe samples, [n, M], in the order of the samples' topic; return the plans they led to.

        A solve never uses a sample beyond the one that made it due, however samples come in batches.
        """
        if self._count.unanchored and len(estimates):
            self._plan = self._count.anchor(self._plan, len(estimates), self.arrived)
        self._samples.enqueue(estimates, terms)
        return self.solve_due()

    def solve_due(self) -> list[Plan]:
        """Observe queued samples until no solve is due any more; return the plans they led to.

        Waiting lanes send samples of many more queries than the first solve needs. These samples are queued:
        a later solve is due after a number of decided queries, and it then knows their charges.
        """
        plans: list[Plan] = []
        while True:
            while (samples := self._samples.dequeue(self.missing_samples)) is not None:
                self._store(*samples)
            if (plan := self.solve()) is None:
                return plans
            plans.append(plan)

    def _store(self, estimates: Estimates, terms: QueryTerms) -> None:
        self._count.observed += len(estimates)
        if self._count.next_solve(self._plan) is None:
            return
        if self.history_rows.mix is not None:
            self.history_rows.mix.observe(estimates)
        self._samples.retain(estimates, terms)

    def record_account(self, lane: int, account: Account) -> None:
        """Record a lane's account; accounts of other periods and older states are ignored."""
        if account.period == self._plan.period:
            self._lanes.record(lane, account, len(self._plan.models))

    # ---- prices ------------------------------------------------------------------------------------------

    def solve(self, *, early: bool = False) -> Plan | None:
        """Solve for new prices if a solve is due; return None otherwise.

        Parameters
        ----------
        early : bool
            Solve on the samples at hand: the time limit of the warm-up has passed.

        Notes
        -----
        Prices are the dual values of the linear program on the m sampled queries with budgets
        B_left m / (N - t), t being the number of decided queries: (n / N) B at the first solve of the paper.
        In a period that ends by time, `PeriodRule` estimates N - t.
        """
        upcoming = self._count.next_solve(self._plan)
        if upcoming is None or (self.observed < upcoming and not (early and self._samples.rows)):
            return None
        if self._plan.learned and self.decided < self._plan.solved_from.base + upcoming:
            return None
        self._list_new_values()
        estimates = self.history_rows.complete(self._samples, self._plan, early=early)
        sampled, weights = self._samples.terms(len(self._plan.models)), None
        rows_from = sampled[0]
        if self.history_rows.mix is not None and self._plan.learned:
            estimates, weights = self.history_rows.mix.rows, self.history_rows.mix.weights()
            rows_from = 0
        # Deferred queries are not paid for yet, so they count as remaining.
        horizon = max(1.0, self.expected_remaining + self.deferred_backlog)
        prices = self._pricing().prices(estimates, weights, rows_from, sampled, horizon)
        self.history_rows.record_mean_cost(estimates)
        self._plan = self._plan.changed(
            version=self._plan.version + 1,
            prices=prices,
            learned=True,
            created_at=self._now(),
            solved_from=self._count.origin_of_solve(
                self._plan, self.history_rows.mean_cost, rows=len(estimates)
            ),
        )
        self._plan = self._plan.changed(until=self._count.until(self._plan))
        if self.settings.resolve == "once":
            self._forget_samples()
        return self._plan

    def _price_from_history(self) -> None:
        """Set prices for a whole period of queries like the history."""
        rows = self.history_rows.rows_with(self._plan.measured)
        assert rows is not None, "the constructor requires the history"
        # The period begins: nothing is charged, and no query has shown its terms.
        prices = self._pricing().prices(rows, None, 0, (0, NO_TERMS), float(self._plan.horizon))
        self._plan = self._plan.changed(version=self._plan.version + 1, prices=prices, learned=True)

    # ---- grants ------------------------------------------------------------------------------------------

    def update_grants(self) -> Plan:
        """Grant budgets by the lanes' last accounts; return the same plan if little would change.

        Call it at regular intervals: the number of rounds left in the period decides which lanes hold grants.
        """
        self._list_new_values()
        self._lanes.close_round()
        by_counter, mean_draw, limits = None, self.history_rows.mean_cost, self._plan.budgets
        if not self._plan.per_llm:
            counters = self._plan.counters
            limits = self._refill.grown(self._plan, self._lanes.charged.sum(0), self._now())
            by_counter = CounterShares(
                counters.grouped,
                self._lanes.by_counter.share,
                counters.rates() > 0,
                counters.covers[counters.budget_of] & self._plan.active,
                counters.budget_of,
            )
            shares = shares_of(counters, self._lanes.seen.sum(0))
            mean_draw = mean_draws(self._plan, mean_draw, self._plan.horizon, shares)
        grants = grant(
            np.where(self._plan.open, limits, 0),
            self._plan.granted,
            self._lanes.released,
            self._lanes.charged,
            self._lanes.traffic.recent,
            mean_draw,
            overflow=self._overflow,
            grant_rounds_left=self.grant_rounds_left,
            lane_share=self._lanes.lane_share(self.expected_remaining),
            by_counter=by_counter,
        )
        if limits is not self._plan.budgets:
            # Not worth a plan of its own: limits matter when they are granted.
            self._plan = replace(self._plan, budgets=limits)
        if grants.differs_enough(self._plan.granted, self._plan.target):
            self._plan = self._plan.changed(
                granted=grants.granted, target=grants.target, created_at=self._now()
            )
        return self._plan

    def _list_new_values(self) -> None:
        """Add counters of values that lanes saw."""
        if keys := self._lanes.values_to_list():
            counters = self._plan.counters.with_keys(keys)
            self._plan = replace(self._plan.with_counters(counters), created_at=self._now())
            self._lanes.widen(len(self._plan.models), counters)

    # ---- samples -----------------------------------------------------------------------------------------

    def _restart_count(self, *, amid_period: bool = False) -> None:
        """Count samples from zero; see `SampleCount.restart`."""
        cost, now = self.history_rows.mean_cost, self._clock()
        self._plan = self._count.restart(self._plan, self.arrived, cost, now, amid_period=amid_period)

    def _forget_samples(self) -> None:
        self._samples.forget()
        if self.history_rows.mix is not None:
            self.history_rows.mix.reset()
