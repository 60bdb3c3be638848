"""Shadow lane: decides queries by a planner and an account in memory, without any effect on the router."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from routing.budgets.money import to_pico
from routing.estimators.base import Estimates
from routing.planning.planner import Planner
from routing.policy.account import Account
from routing.policy.alignment import Alignment
from routing.policy.policy import must_wait_for_prices
from streams.config.planning_settings import planning_settings
from streams.config.settings import Settings
from streams.ledger.record import LedgerRecord
from streams.messages.decision import DecisionRecord
from streams.messages.record import Record
from streams.planner.catalogue_reader import CatalogueReader
from streams.router.batch import DecidedBatch, IntakeBatch
from streams.router.charges import Charger
from streams.router.decision_log import decision_records
from streams.router.estimation import Estimation
from streams.router.query_intake import QueryIntake
from streams.router.routing_pass import PlanColumns, decide_batch, terms_of_batch
from streams.router.token_counts import TokenCounter

LANE = 0


@dataclass(frozen=True)
class ShadowContext:
    """The components that decide a batch (`streams.router.context.DecisionContext`).

    Parameters
    ----------
    settings : Settings
    catalogue : CatalogueReader
        Not started: the catalogue is the file's.
    charge : Charger
    count_tokens : TokenCounter
    clock : callable
        Time of the newest query, in seconds since the epoch.
    """

    settings: Settings
    catalogue: CatalogueReader
    charge: Charger
    count_tokens: TokenCounter
    clock: Callable[[], float]


class ShadowLane:
    """Decides the queries of all partitions as one lane with the whole budgets would.

    Time is that of the queries, so a shadow that catches up has the periods that it would have had. Every
    decision is settled at once at its estimated cost, because the LLM is not asked.

    Parameters
    ----------
    settings : Settings
    estimation : Estimation
    catalogue : CatalogueReader
    charge : Charger
    count_tokens : TokenCounter
    intake : QueryIntake
    monotonic : callable, optional
        Seconds, for the longest wait of the warm-up.
    """

    def __init__(
        self,
        settings: Settings,
        estimation: Estimation,
        catalogue: CatalogueReader,
        charge: Charger,
        count_tokens: TokenCounter,
        intake: QueryIntake,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._intake, self._monotonic = settings, intake, monotonic
        self._now = 0.0
        self._context = ShadowContext(settings, catalogue, charge, count_tokens, lambda: self._now)
        self._columns = PlanColumns(intake.models, settings.topics, intake.clusters)
        version, names = catalogue.latest, catalogue.latest.catalogue.names
        self._planner = Planner(
            planning_settings(settings, version.catalogue.period),
            names,
            estimation.budgets(version.catalogue),
            history=lambda: Alignment(estimation.estimator.models, names).apply(estimation.leave_one_out()),
            list_prices=version.list_prices_since(catalogue.base),
            clock=lambda: self._now,
        )
        self._record: LedgerRecord | None = None
        self._waiting: list[IntakeBatch] = []
        self._waits_since: float | None = None

    @property
    def waits(self) -> bool:
        """True while queries wait for the first prices."""
        return bool(self._waiting)

    def process(self, records: Sequence[Record]) -> Iterator[tuple[Record, DecisionRecord]]:
        """Yield the decisions about records; invalid ones have none. During warm-up records wait.

        Parameters
        ----------
        records : sequence of Record
            May be empty: the longest wait of the warm-up may have passed.
        """
        if records:
            self._now = max(self._now, max(record.timestamp for record in records) / 1000)
        if self._record is None:
            if not records:
                return
            plan = self._planner.start_period()
            account = Account.fresh(plan.period, len(plan.models), None if plan.per_llm else plan.counters)
            self._record = replace(LedgerRecord.fresh(LANE), account=account)
        if records:
            self._waiting.append(self._intake.decode(records))
        if must_wait_for_prices(self._planner.plan, self._settings.warmup):
            self._sample(self._waiting[-1:] if records else [])
        if must_wait_for_prices(self._planner.plan, self._settings.warmup):
            return
        waiting, self._waiting = self._waiting, []
        for arrivals in waiting:
            batch = self._decide(arrivals)
            for row, decision in decision_records(batch, self._now):
                yield arrivals.records[row], decision

    def _sample(self, batches: Sequence[IntakeBatch]) -> None:
        """Show waiting queries to the planner, which solves when it has enough or they wait too long."""
        if self._waits_since is None:
            self._waits_since = self._monotonic()
        plan = self._planner.plan
        for arrivals in batches:
            estimates = self._columns.alignment(plan).apply(arrivals.estimates)
            charge = self._context.charge(arrivals.queries, estimates, plan).pico
            terms = terms_of_batch(self._context, self._columns, plan, arrivals, estimates, charge).terms
            self._planner.observe(estimates, terms)
        if self._monotonic() - self._waits_since > self._settings.warmup_seconds:
            self._planner.solve(early=True)

    def _decide(self, arrivals: IntakeBatch) -> DecidedBatch:
        assert self._record is not None, "`process` begins the first period"
        planner, plan = self._planner, self._planner.plan
        sources = [(record.partition, record.offset) for record in arrivals.records]
        arrivals = replace(arrivals, sources=sources)
        batch = decide_batch(self._context, self._columns, plan, self._record, arrivals)
        self._record = replace(self._record, account=_settle_estimates(batch))
        planner.record_account(LANE, self._record.account)
        if plan.until is not None or not plan.learned:
            planner.observe(batch.uncorrected, batch.terms.terms)
        if planner.period_is_over:
            planner.start_period()
        else:
            planner.update_grants()
        return batch


def _settle_estimates(batch: DecidedBatch) -> Account:
    """Return the account after every decision cost what it was estimated to cost."""
    decisions = batch.decisions
    rows = np.flatnonzero(decisions.choice >= 0)
    model, reserved = decisions.choice[rows], decisions.charge[rows]
    actual = np.minimum(to_pico(_chosen_cost(batch.estimates, rows, model)), reserved)
    columns = None if decisions.columns is None else decisions.columns[rows]
    return decisions.account.settle(model, reserved, actual, columns)


def _chosen_cost(estimates: Estimates, rows: np.ndarray, model: np.ndarray) -> np.ndarray:
    return np.asarray(estimates.cost[rows, model])
