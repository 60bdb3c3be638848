"""The router's processor: decide, charge and produce one lane's batches, each in one fenced transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import structlog
from confluent_kafka import KafkaError, KafkaException

from routing.policy.account import Account
from routing.policy.plan import Plan
from routing.policy.policy import enter_period, must_wait_for_prices
from streams.kafka.transactions import Transaction, TransactionalProducer
from streams.ledger.account_format import lane_key
from streams.ledger.changes import LedgerChanges
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch, encode_reservations
from streams.ledger.settlement import Settlement
from streams.messages.record import Record
from streams.router.batch import DecidedBatch, Intake, IntakeBatch, LaneCommit
from streams.router.charges import charge_batch
from streams.router.context import WorkerContext
from streams.router.decision_log import produce_decisions
from streams.router.deleted_queries import count_deleted, report_deleted
from streams.router.lane_state import read_lane_state
from streams.router.outputs import (
    build_reservations,
    produce_dead_letters,
    produce_queries,
    produce_rejected_outcomes,
    produce_samples,
)
from streams.router.required_values import without_value_refused
from streams.router.returned_queries import ReturnedDecisions, ReturnedQueries
from streams.router.routing_pass import PlanColumns, decide_batch, released, terms_of_batch
from streams.router.sessions import SessionMemory

log = structlog.get_logger(__name__)

UNLIMITED_RECORDS = 1 << 30
MAX_OUTCOMES_PER_TRANSACTION = 2000


class RouterProcessor:
    """Routes the records of one lane.

    Parameters
    ----------
    shared : WorkerContext
    lane : int
        Row of the plan's grants, and partition of outcomes and reservations.
    intake : Intake
    ledger_topic : str
    ledger_partition : int
        Position of the lane's record.
    returned_intake : Intake, optional
        For returned queries, which are as they were on the topic of queries; by default `intake`.
    """

    def __init__(
        self,
        shared: WorkerContext,
        lane: int,
        intake: Intake,
        ledger_topic: str,
        ledger_partition: int,
        returned_intake: Intake | None = None,
    ) -> None:
        self.shared, self.lane, self.intake = shared, lane, intake
        self._ledger = (ledger_topic, ledger_partition)
        self._settings, self._topics = shared.settings, shared.settings.topics
        self._clock = shared.clock
        self._log = log.bind(partition=lane)
        self._producer: TransactionalProducer | None = None
        self._settlement = Settlement(lane, shared.settings.settle_seconds)
        self._waiting = False
        self._plan: Plan | None = None
        self._excess: tuple[Account, Plan, bool] | None = None
        self._columns = PlanColumns(intake.models, self._topics, intake.clusters)
        overflow = ledger_topic == self._topics.overflow_ledger
        self._input = (self._topics.overflow, 0) if overflow else (self._topics.queries, lane)
        self._returned = ReturnedQueries(shared, lane, *self._input, returned_intake or intake)
        self._sessions = SessionMemory() if shared.settings.stickiness else None
        self.record = LedgerRecord.fresh(lane)
        self._changes = LedgerChanges(lane)
        self.oldest_open: Mapping[str, float] = {}
        """Creation time of the oldest open reservation, by LLM; replaced, never changed."""

    # ---- the lane --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Fence former owners, then read the ledger and the open reservations."""
        access = self.shared.access
        self._producer = access.open_producer(f"lane-{self.lane}")
        state = read_lane_state(access, self._topics, self.lane, *self._ledger)
        record = state.record
        if record.next < self.record.next:
            # the ledger is the arbiter of what was decided, so an incomplete read must not be believed
            raise KafkaException(
                KafkaError(
                    KafkaError._STATE,
                    f"{self._ledger[0]}[{self._ledger[1]}] was read up to next={record.next}, "
                    f"and this worker has committed next={self.record.next}",
                )
            )
        self.record = record
        self._changes.opened(record, state.accounts)
        self._plan, self._waiting = None, False
        self.intake.forget()
        self._settlement.rebuild(record, state.reservations, state.outcomes)
        self.oldest_open = self._settlement.oldest_open(record.models)
        self.shared.feed.add_lane(self.lane, record.outcomes_next, self._settlement.inbox)
        self.shared.returned.add_lane(self.lane, record.returned_next, self._settlement.returned)
        self.shared.on_record(record)
        self.refresh_plan()
        self._log.info(
            "lane_open", next=record.next, period=record.account.period, open=len(state.reservations)
        )

    def close(self) -> None:
        """Roll back an open transaction."""
        self.shared.feed.remove_lane(self.lane)
        self.shared.returned.remove_lane(self.lane)
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def refresh_plan(self) -> None:
        """Use the newest plan from now on, unless a reader lags behind this lane's last transaction."""
        plan = self.shared.plans.latest
        stale = plan is None or plan.revision < self.record.revision
        if stale or plan is None or plan.catalogue > self.shared.catalogue.latest.version:
            # a reader lags behind the plan or the catalogue of this lane's last transaction
            self._plan = None
            return
        self._plan, self._waiting = plan, must_wait_for_prices(plan, self._settings.warmup)

    @property
    def next_offset(self) -> int:
        """Offset of the next query to decide, or to sample during warm-up."""
        record, plan = self.record, self._plan
        if not self._waiting or (plan is not None and plan.period != record.account.period):
            return record.next  # earlier samples belong to the period before
        return max(record.next, record.sampled)

    @property
    def max_records(self) -> int:
        """Number of records to process now: 0 without a plan, in lockstep those up to the next solve."""
        plan = self._plan
        if plan is None or self.lane >= plan.lanes or (self._waiting and self.lane == plan.pool):
            return 0
        if self._settings.lockstep and not self._waiting and plan.until is not None:
            arrived = self.record.account.arrived if self.record.account.period == plan.period else 0
            return max(0, plan.until - arrived)
        return UNLIMITED_RECORDS

    @property
    def has_pending_work(self) -> bool:
        """True if outcomes or returned queries wait, a period has begun, or money is to be released."""
        plan = self._plan
        if plan is None or self.lane >= plan.lanes:
            return False
        if self._settlement.has_news or plan.period != self.record.account.period:
            return True
        if self._settlement.has_old(self._clock()) or (self._settlement.returned and not self._waiting):
            return True
        return not self._waiting and self._holds_excess(plan)

    def _holds_excess(self, plan: Plan) -> bool:
        """Return True if the lane holds grants beyond its targets."""
        account, known = self.record.account, self._excess
        if known is None or known[0] is not account or known[1] is not plan:
            entered = enter_period(account, plan)
            self._excess = known = (account, plan, released(entered, plan, self.lane) is not entered)
        return known[2]

    def process(self, records: list[Record]) -> LaneCommit | None:
        """Process records, waiting outcomes and waiting returned queries in one transaction.

        During warm-up queries are sampled, afterwards they are decided. Returns None if there is no plan.
        """
        plan, producer, before = self._plan, self._producer, self.record
        if plan is None or producer is None:
            return None
        batch, returned_batch = None, None
        if not records:
            returned_batch = self._update_account(producer, plan)
        elif self._waiting:
            self._sample(producer, plan, records)
        else:
            batch, returned_batch = self._route(producer, plan, records)
        self.shared.on_record(self.record)
        return LaneCommit(before, self.record, batch, returned_batch)

    def skip_deleted(self, start: int) -> None:
        """Continue at the first offset that the log still has; the ledger counts the deleted queries."""
        record = self.record
        if self._producer is None or start <= record.next:
            return
        topic, partition = self._input
        deleted = count_deleted(self._settings, record, topic, partition, start)
        report_deleted(record, topic, partition, deleted, start)
        with self._producer.transaction() as transaction:
            self._commit(transaction, record.without_deleted("input", start, self._clock(), deleted))
        self.shared.on_record(self.record)

    def _update_account(self, producer: TransactionalProducer, plan: Plan) -> DecidedBatch | None:
        """Settle outcomes, expire reservations, give back grants and decide returned queries again."""
        record = self._record_under(plan)
        if not self._waiting:
            account = released(record.account, plan, self.lane)
            record = replace(record, account=account, sampled=max(record.sampled, record.next))
        with producer.transaction() as transaction:
            record = self._settle(transaction, record)
            returned = (
                ReturnedDecisions(record) if self._waiting else self._decide_again(transaction, plan, record)
            )
            appended = self._reserve(transaction, returned.reservations)
            with self.shared.stages.stage("commit", 0):
                self._commit(transaction, returned.record, appended)
        return returned.batch

    def _decide_again(self, transaction: Transaction, plan: Plan, record: LedgerRecord) -> ReturnedDecisions:
        return self._returned.process(transaction.produce, self._settlement, plan, record)

    # ---- warm-up -----------------------------------------------------------------------------------------

    def _sample(self, producer: TransactionalProducer, plan: Plan, records: list[Record]) -> None:
        """Send estimates to the planner and skip the queries: they stay in the log until there are prices."""
        record = self._record_under(plan)
        with self.shared.stages.stage("intake", len(records)):
            arrivals = without_value_refused(self.intake.decode(records, remember=True), plan)
        begin = max(record.sampled, record.next)
        first = arrivals.records[0].offset if arrivals.records else None
        refused = [one for one in arrivals.refused if first is None or one[0].offset < first]
        record = replace(record, sampled=records[-1].offset + 1)
        with self.shared.stages.stage("sample", len(records)), producer.transaction() as transaction:
            if refused and begin == record.next:
                # no valid query before them waits for prices; without one, prices may never come
                produce_dead_letters(transaction.produce, self._topics, refused, self._clock())
                account = replace(record.account, dead=record.account.dead + len(refused))
                begin = record.sampled if first is None else first
                record = replace(record, account=account, next=begin)
            record = self._settle(transaction, record)
            if arrivals.records:
                self._produce_samples(transaction, plan, record, begin, arrivals)
            self._commit(transaction, record)

    def _produce_samples(
        self, transaction: Transaction, plan: Plan, record: LedgerRecord, begin: int, arrivals: IntakeBatch
    ) -> None:
        estimates = self._columns.alignment(plan).apply(arrivals.estimates)
        charge = charge_batch(self.shared.charge, arrivals, estimates, plan).pico
        terms = terms_of_batch(self.shared, self._columns, plan, arrivals, estimates, charge).terms
        lockstep, topics = self._settings.lockstep, self._topics
        produce_samples(transaction.produce, topics, plan, record, begin, estimates, terms, lockstep)

    # ---- routing -----------------------------------------------------------------------------------------

    def _route(
        self, producer: TransactionalProducer, plan: Plan, records: list[Record]
    ) -> tuple[DecidedBatch, DecidedBatch | None]:
        """Decide records, then waiting returned queries; return the decisions about both."""
        stages = self.shared.stages
        record = self._record_under(plan)
        with stages.stage("intake", len(records)):
            arrivals = self.intake.decode(records)
            if self.lane != plan.pool:  # deferred queries were admitted when they arrived
                arrivals = without_value_refused(arrivals, plan)
        with stages.stage("decide", len(records)):
            batch = decide_batch(self.shared, self._columns, plan, record, arrivals, self._sessions)
            account = batch.decisions.account
            account = replace(account, dead=account.dead + len(arrivals.refused))
            sampled_from = max(record.sampled, record.next)
            position = records[-1].offset + 1
            record = replace(record, account=account, next=position, sampled=max(record.sampled, position))
        with producer.transaction() as transaction:
            with stages.stage("produce", len(records)):
                out, now = transaction.produce, self._clock()
                names, parts = self._columns.llm_topics(plan), self._settings.llm_topic_partitions
                produce_queries(out, self._topics, names, batch, now, parts, self.shared.answer_limit)
                if self._settings.decision_log:
                    produce_decisions(out, self._topics, batch, now)
                produce_dead_letters(out, self._topics, arrivals.refused, now)
                record = self._settle(transaction, record)
                reservations = build_reservations(batch, self.record, record, self._clock())
                appended = self._reserve(transaction, reservations)
                planner_needs_samples = (
                    plan.until is not None or not plan.learned
                ) and self.lane != plan.pool
                if planner_needs_samples:
                    first = int(np.searchsorted(batch.offsets, sampled_from))
                    rows = slice(first, None)
                    produce_samples(
                        out,
                        self._topics,
                        plan,
                        record,
                        sampled_from,
                        batch.uncorrected.rows(rows),
                        batch.terms.terms.rows(rows),
                        self._settings.lockstep,
                    )
                returned = self._decide_again(transaction, plan, record)
                appended += self._reserve(transaction, returned.reservations)
            with stages.stage("commit", len(records)):
                self._commit(transaction, returned.record, appended)
        if self._sessions is not None:
            self._sessions.remember(batch)
        return batch, returned.batch

    def _reserve(
        self, transaction: Transaction, batch: ReservationBatch | None
    ) -> list[tuple[list[int], ReservationBatch]]:
        """Produce reservations; the inner list gets their offset."""
        if batch is None:
            return []
        offsets: list[int] = []
        value = encode_reservations(batch)
        transaction.produce(self._topics.reservations, value, partition=self.lane, on_offset=offsets.append)
        return [(offsets, batch)]

    # ---- transactions ------------------------------------------------------------------------------------

    def _record_under(self, plan: Plan) -> LedgerRecord:
        """Return the record in the plan's period. Past accounts are kept while they may change."""
        record = self.record
        account = enter_period(record.account, plan)
        if account.period != record.account.period:
            # queries sampled but not decided in the last period are sampled again in this one
            record = replace(record.entering(account), sampled=record.next)
        open_since = self._settlement.reservations.first_period
        # accounts without a final bill are kept for the next planner
        forgettable = min(plan.billed, (account.period if open_since is None else open_since) - 1)
        record = record.forgetting(forgettable)
        return replace(
            record, account=account, models=plan.models, version=plan.version, revision=plan.revision
        )

    def _settle(self, transaction: Transaction, record: LedgerRecord) -> LedgerRecord:
        """Settle waiting outcomes and expire old reservations."""
        now = self._clock()
        record = self._settlement.skip_deleted(record, now)
        messages = self._settlement.inbox.pop_batch(MAX_OUTCOMES_PER_TRANSACTION)
        if messages:
            with self.shared.stages.stage("settle", len(messages)):
                result = self._settlement.settle(record, messages)
                record = result.record
                produce_rejected_outcomes(
                    transaction.produce, self._topics, self._topics.outcomes, self.lane, result.refused, now
                )
        return self._settlement.expire(record, now)

    def _commit(
        self,
        transaction: Transaction,
        record: LedgerRecord,
        appended: Sequence[tuple[list[int], ReservationBatch]] = (),
    ) -> None:
        """Write the lane's record and commit; keep the record only if that succeeds."""
        # never kept from before when all have lapsed: a restart would let them lapse a second time
        oldest = self._settlement.reservations.oldest()
        # as of before this transaction's decisions, which are the newest
        waiting = self._settlement.oldest_open(record.models)
        record = replace(record, reservations_from=oldest, oldest_open=waiting, written_at=self._clock())
        topic, partition = self._ledger
        for key, value in self._changes.since(record):
            transaction.produce(topic, value, key, partition=partition)
        # last: the record is what makes the other messages count
        transaction.produce(topic, record.encode(), lane_key(self.lane), partition=partition)
        transaction.commit(record.next)
        self._changes.written(record)
        for offsets, batch in appended:
            self._settlement.reservations.append(offsets[0], batch)
        self.record = record
        self.oldest_open = self._settlement.oldest_open(record.models)
