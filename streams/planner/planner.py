"""The planner's processor: samples and ledgers in, plans and bills out. The cluster has exactly one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from routing.budgets.budget import Budget
from routing.budgets.catalogue import Catalogue
from routing.feedback.clusters import TaskClusters
from routing.planning.planner import Planner
from routing.planning.sample_size import few_samples
from routing.policy.plan import Plan
from streams.config.planning_settings import planning_settings
from streams.config.settings import Settings
from streams.kafka.topic_access import TopicAccess
from streams.kafka.transactions import TransactionalProducer
from streams.lanes.stage_timers import Stages
from streams.ledger.record import LedgerRecord
from streams.ledger.sample_batch import SampleBatch
from streams.ledger.view import LedgerView
from streams.messages.plan import encode_plan, plan_messages, same_but_for_rights
from streams.messages.record import Record
from streams.messages.rejection import RejectedMessage
from streams.messages.top_up import amounts_in
from streams.planner.bill_updates import BillUpdates, open_summaries
from streams.planner.catalogue_reader import CatalogueReader
from streams.planner.catalogue_rules import unusable_llms
from streams.planner.circuit_breaker import CircuitBreaker
from streams.planner.cost_watch import CostWatch
from streams.planner.measurements import measure_unknown_models
from streams.planner.plan_reader import newest_plan
from streams.planner.planner_limits import DEFAULT_LIMITS, SUMMARY_PAUSES, SUMMARY_SECONDS, PlannerLimits
from streams.planner.quality_feedback import QualityFeedback
from streams.planner.quantile_feedback import QuantileFeedback
from streams.planner.warmup import warmup_wait

log = structlog.get_logger(__name__)

MIN_GRANT_ROUNDS = 50
"""Grant rounds over the rest of a period, if there is time for them, so that grants follow what is left."""


class HistoryEstimates(Protocol):
    """The part of a worker's estimation that the planner needs."""

    @property
    def models(self) -> Sequence[str]:
        """LLMs of the history."""
        ...

    @property
    def clusters(self) -> TaskClusters | None:
        """Task clusters of the history; None if estimates are not corrected by reported quality."""
        ...

    def budgets(self, catalogue: Catalogue) -> Sequence[Budget]:
        """Return the budgets of a catalogue."""
        ...


class PlannerProcessor:
    """Owner of the cluster's plan, while it owns the partition of the samples.

    It keeps no state of its own on a topic. The plan has the offset of the period's first sample, and the
    next owner reads the samples again from there.

    Parameters
    ----------
    settings : Settings
    make_planner : callable
        Returns a planner that has not started a period.
    view : LedgerView
        The lanes' committed ledgers.
    stages : Stages
    catalogue : CatalogueReader
    estimates : HistoryEstimates
        The history's LLMs, and budgets by their costs.
    access : TopicAccess, optional
        Opens the producer and reads back its topics. By default, the settings' cluster.
    clock : callable, optional
        Seconds since the epoch.
    monotonic : callable, optional
        Seconds of a clock that is never set.
    processor_time : callable, optional
        Seconds that the calling thread has computed. A broker that keeps a commit waiting adds nothing.
    limits : PlannerLimits, optional
    """

    def __init__(
        self,
        settings: Settings,
        make_planner: Callable[[], Planner],
        view: LedgerView,
        stages: Stages,
        catalogue: CatalogueReader,
        estimates: HistoryEstimates,
        *,
        access: TopicAccess | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        processor_time: Callable[[], float] = time.thread_time,
        limits: PlannerLimits = DEFAULT_LIMITS,
    ) -> None:
        self._settings, self._topics = settings, settings.topics
        self._make_planner, self._view, self._stages = make_planner, view, stages
        self._catalogue, self._estimates = catalogue, estimates
        self._access = access or TopicAccess(settings)
        self._clock, self._monotonic, self._processor_time = clock, monotonic, processor_time
        self._limits = limits
        self._producer: TransactionalProducer | None = None
        self._planner: Planner | None = None
        self._next = 0
        self._published = -1
        self._logged: Plan | None = None
        self._on_topic: Plan | None = None
        self._first_sample: float | None = None
        self._last_round_at = self._billed_at = 0.0
        self._round_seconds = limits.shortest_round_seconds
        self._bills, self._bill_seconds = BillUpdates(), SUMMARY_SECONDS
        self._costs, self._breaker = CostWatch(settings.reserve), CircuitBreaker(settings)
        self._feedback = QualityFeedback(estimates.clusters, estimates.models)
        self._quantiles = QuantileFeedback(settings.reserve)

    def open(self) -> None:
        """Fence the former planner, read the plan in force, and resume from it."""
        self._producer = self._access.open_producer("planner")
        last = newest_plan(self._access.read(self._topics.plans))
        self._planner = self._make_planner()
        self._first_sample = None
        self._feedback.forget()
        self._quantiles.forget()
        billed = 0 if last is None else last.billed
        self._bills = BillUpdates(open_summaries(self._access.read(self._topics.periods), billed))
        if last is None:
            self._next = 0
            self._planner.start_period()
            self._publish(self._planner.plan)
        else:
            self._planner.resume(last)
            self._breaker.resume(last.paused)
            self._published = last.revision
            self._logged = self._on_topic = last
            self._next = self._samples_from(last)
        log.info("planner_open", plan=self._planner.plan.version, samples_from=self._next)
        self._warn_of_few_samples(self._planner)

    def _warn_of_few_samples(self, planner: Planner) -> None:
        """Log a warning if the first queries of a period are too few to price the LLMs in force."""
        if (warning := few_samples(planner.settings, int(planner.plan.active.sum()))) is not None:
            log.warning("few_samples", reason=warning)

    def _samples_from(self, plan: Plan) -> int:
        """Return the offset of the period's first sample; 0 if the topic was deleted and created again."""
        start = plan.solved_from.samples_from or 0
        if not self._access.partitions_ending_before({(self._topics.samples, 0): start}):
            return start
        log.warning("samples_lost", samples_from=start)
        return 0

    def skip_deleted(self, start: int) -> None:
        """Continue at the first sample that the log still has. Prices are learned from the rest."""
        if start > self._next:
            # once there are prices, the deleted samples are not needed
            report = log.info if self._planner is not None and self._planner.plan.learned else log.warning
            report("samples_deleted", offsets=start - self._next, first=self._next, last=start - 1)
            self._next = start

    def close(self) -> None:
        """Roll back an open transaction."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def refresh_plan(self) -> None:
        """Do nothing: the planner makes the plan."""

    @property
    def next_offset(self) -> int:
        """Offset of the next sample."""
        return self._next

    @property
    def version(self) -> int:
        """Version of the prices in force."""
        return self._planner.plan.version if self._planner is not None else 0

    @property
    def max_records(self) -> int:
        """Maximum number of messages, each with the samples of one batch; 0 while enough samples are held."""
        queued = self._planner.queued_samples if self._planner is not None else 0
        return max(0, -(-(self._limits.held_samples - queued) // self._settings.batch_max))

    @property
    def has_pending_work(self) -> bool:
        """True if a grant round is due, or if a burst may have begun that must not wait for it."""
        if self._planner is None or self._monotonic() - self._last_round_at >= self._round_seconds:
            return True
        limits = self._limits
        burst = limits.longest_round_seconds * limits.max_queries_per_second
        return self._planner.expected_remaining < MIN_GRANT_ROUNDS * burst

    def process(self, records: Sequence[Record]) -> bool:
        """Observe samples, solve if a solve is due, update grants, begin periods.

        Returns
        -------
        bool
            True if the prices in force changed.
        """
        version = self.version
        self._process(records)
        return self.version != version

    def _process(self, records: Sequence[Record]) -> None:
        planner = self._planner
        if planner is None:
            return
        for record in records:
            self._observe(planner, record)
        if records:
            self._next = records[-1].offset + 1
        if not self._view.ready:
            return  # until the ledgers are read, every lane looks as if it had spent nothing
        since = self._monotonic() - self._last_round_at
        if records and since < self._round_seconds:
            return
        self._record_accounts(planner)
        for learned in planner.solve_due():
            self._publish(learned)
        if since < self._round_seconds and not planner.is_behind(MIN_GRANT_ROUNDS):
            return
        self._apply_catalogue(planner)
        paused = self._breaker.update(self._clock(), self._view.records(), self._catalogue.pauses)
        if paused != planner.plan.paused:
            planner.pause(paused)
        planner.top_up(amounts_in(self._catalogue.top_ups, planner.plan.period))
        self._feedback.update(planner, self._view.records())
        self._quantiles.update(planner, self._view.records())
        if self._warmup_timed_out(planner) and (plan := planner.solve(early=True)) is not None:
            log.warning(
                "warmup_time_limit",
                samples=plan.solved_from.observed,
                rows=plan.solved_from.rows,
                seconds=self._settings.warmup_seconds,
            )
            self._publish(plan)
        if planner.period_is_over:
            planner = self._begin_period(planner)
        else:
            planner.update_grants()
        self._publish(planner.plan)
        self._schedule(planner, since)
        if self._monotonic() - self._billed_at >= self._bill_seconds:
            self._publish_bills(self._view.records())

    def _begin_period(self, planner: Planner) -> Planner:
        """Publish the bill of the period that ends, under its own budgets, then begin the next.

        If another rule for periods was applied, another planner takes over: it has settings of its own.
        """
        ledgers = self._view.records()
        self._publish_bills(ledgers)
        billed = None if self._logged is None else self._bills.final_through(self._logged, ledgers)
        planning = planning_settings(self._settings, self._catalogue.latest.catalogue.period)
        if not planning.has_periods_of(planner.settings):
            planner, plan = self._make_planner(), planner.plan
            planner.resume(plan)
            self._planner = planner
            self._record_accounts(planner)
        planner.start_period(billed)
        if planner.plan.learned:
            # while queries still wait, their time limit runs on: it may be longer than a period
            self._first_sample = None
        plan = planner.plan
        log.info("period_begins", period=plan.period, billed=plan.billed, ends_at=plan.ends_at)
        return planner

    def _schedule(self, planner: Planner, since: float) -> None:
        """Set the time of the next grant round: soon at both ends of a period, and in a short one."""
        self._last_round_at, limits = self._monotonic(), self._limits
        seconds = min(since, limits.longest_round_seconds) * planner.grant_rounds_left / MIN_GRANT_ROUNDS
        self._round_seconds = min(limits.longest_round_seconds, max(limits.shortest_round_seconds, seconds))

    def _observe(self, planner: Planner, record: Record) -> None:
        try:
            sent = SampleBatch.decode(record.value)
        except RejectedMessage as error:
            log.error("sample_refused", offset=record.offset, reason=str(error))
            return
        inside, count = sent.lane < len(planner.accounts), len(sent.estimates)
        if sent.period != planner.plan.period or sent.models != planner.plan.models or not inside:
            return  # sampled before the plan in force, which learns from its own samples
        if sent.account is not None:
            planner.record_account(sent.lane, sent.account)
        if self._first_sample is None and count:
            self._first_sample = self._monotonic()
            if (wait := warmup_wait(planner.plan)) is not None:
                log.info("warmup_waits", wanted=wait.wanted, at_most_seconds=self._settings.warmup_seconds)
        with self._stages.stage("plan", count):
            for plan in planner.observe(sent.estimates, sent.terms):
                self._publish(plan)

    def _record_accounts(self, planner: Planner) -> None:
        for lane, ledger in self._view.records().items():
            if lane < len(planner.accounts):
                planner.record_account(lane, ledger.account)

    def _apply_catalogue(self, planner: Planner) -> None:
        """Apply a newer catalogue, and the measurements of LLMs without a history."""
        version, plan = self._catalogue.latest, planner.plan
        # a planner of an older release may have applied the same version without the history's prices
        priced_differently = version.priced_by is not None and version.priced_by != plan.priced_by
        if version.version > plan.catalogue or (version.version == plan.catalogue and priced_differently):
            planner.apply_catalogue(
                version.version,
                version.catalogue.names,
                self._estimates.budgets(version.catalogue),
                version.list_prices,
            )
            log.info("catalogue_applied", version=version.version, cost_factor=planner.plan.cost_factor)
            self._warn_of_few_samples(planner)
            for reason in unusable_llms(
                version.catalogue.names, self._estimates.models, self._settings.exploration
            ):  # published by an older release, or for workers with another history
                log.error("catalogue_unusable", version=version.version, reason=reason)
        history = set(self._estimates.models)
        unknown = [name for name in planner.plan.models if name not in history]
        planner.record_measurements(
            measure_unknown_models(unknown, self._catalogue.models, self._view.records())
        )

    def _warmup_timed_out(self, planner: Planner) -> bool:
        """Return True if queries have waited for prices for longer than they may."""
        return (
            not planner.plan.learned
            and self._first_sample is not None
            and self._monotonic() - self._first_sample > self._settings.warmup_seconds
        )

    def _publish(self, plan: Plan) -> None:
        """Publish a plan, unless its revision is published already."""
        if plan.revision == self._published or self._producer is None or self._planner is None:
            return
        if plan.solved_from.samples_from is None:
            plan = self._planner.record_samples_start(self._next, self._settings.warmup_seconds)
        with self._producer.transaction() as transaction:
            for key, value in plan_messages(plan, self._on_topic):
                transaction.produce(self._topics.plans, value, key, partition=0)
            if self._logged is None or not same_but_for_rights(self._logged, plan):
                version = str(plan.version).encode()
                transaction.produce(self._topics.plan_log, encode_plan(plan), version, partition=0)
            transaction.commit(self._next)
        self._published, self._logged, self._on_topic = plan.revision, plan, plan
        log.info(
            "plan_published",
            plan=plan.version,
            revision=plan.revision,
            period=plan.period,
            learned=plan.learned,
            observed=plan.solved_from.observed,
            rows=plan.solved_from.rows,
        )

    def _publish_bills(self, ledgers: Mapping[int, LedgerRecord]) -> None:
        """Publish the bills that changed, under the published plan.

        Parameters
        ----------
        ledgers : mapping of int to LedgerRecord
            Of all lanes: a sum over some of them is not a bill.
        """
        if self._producer is None or self._logged is None:
            return
        self._billed_at, computed = self._monotonic(), self._processor_time()
        due = self._bills.pending(self._logged, ledgers, self._clock())
        if not due:
            return
        with self._producer.transaction() as transaction:
            for summary in due:
                for key, value in self._bills.messages(summary):
                    transaction.produce(self._topics.periods, value, key, partition=0)
            # the bill records the alert in the same transaction, so that each becomes one event
            for event in self._bills.events:
                transaction.produce(self._topics.budget_events, event.encode(), event.key, partition=0)
            transaction.commit(self._next)
        self._bills.mark_written(due)
        self._costs.record(due)
        self._bill_seconds = max(SUMMARY_SECONDS, SUMMARY_PAUSES * (self._processor_time() - computed))
