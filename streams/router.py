"""The router's desk: one lane's batches decided, charged and produced, each in one fenced transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import structlog

from routing.account import Account
from routing.alignment import Alignment, align
from routing.estimators.base import Estimates
from routing.plan import Plan
from routing.policy import enter, route, waits
from streams.backlog import Record
from streams.catalogue_versions import CatalogueReader
from streams.charging import Charger, Charges
from streams.dead_letters import dead_letter_headers
from streams.exploring import to_explore
from streams.headers import headers_of
from streams.intake import Arrivals
from streams.kafka import reader_config, transactional_config
from streams.ledger import LedgerRecord, account_key, account_to_dict, lane_key
from streams.ledger_log import LedgerLog
from streams.messages import encode_samples
from streams.outcome_feed import OutcomeFeed
from streams.plans import PlanReader
from streams.posting import Decided, post_queries, post_refused, reservations
from streams.reservations import Reserved, decode_reserved, encode_reserved
from streams.settings import Settings
from streams.settlement import Settlement
from streams.stages import Stages
from streams.transactions import FencedProducer, read_to_end

log = structlog.get_logger(__name__)

UNBOUNDED = 1 << 30
OUTCOMES_MAX = 2000


class Intake(Protocol):
    """Where arrivals come from: queries, or what lanes deferred."""

    models: tuple[str, ...] | None
    """What the columns of estimates stand for; None: the plan's LLMs."""

    def take(self, records: Sequence[Record], *, remember: bool = False) -> Arrivals:
        """Decode and estimate records."""
        ...

    def forget(self) -> None:
        """Drop what was remembered."""
        ...


@dataclass(frozen=True)
class Shared:
    """What all desks of a worker use."""

    settings: Settings
    catalogue: CatalogueReader
    charge: Charger
    plans: PlanReader
    feed: OutcomeFeed
    stages: Stages
    on_record: Callable[[LedgerRecord], None]


class RouterDesk:
    """Routes the records of one lane.

    Parameters
    ----------
    shared : Shared
    lane : int
        Row of the plan's rights, and partition of outcomes and reservations.
    intake : Intake
    ledger_topic : str
    ledger_partition : int
        Where the lane's record is.
    """

    def __init__(
        self, shared: Shared, lane: int, intake: Intake, ledger_topic: str, ledger_partition: int
    ) -> None:
        self.shared, self.lane, self.intake = shared, lane, intake
        self._ledger = (ledger_topic, ledger_partition)
        self._settings, self._topics = shared.settings, shared.settings.topics
        self._log = log.bind(partition=lane)
        self._producer: FencedProducer | None = None
        self._settlement = Settlement(lane, shared.settings.settle_seconds)
        self._out: Callable[..., None] = _no_transaction
        self._waiting = False
        self._plan: Plan | None = None
        self._aligned: tuple[Plan, Alignment] | None = None
        self._named: tuple[Plan, list[str]] | None = None
        self.record = LedgerRecord.fresh(lane)
        self._written: Mapping[int, Account] = {}
        """Accounts of periods before as they are on the topic."""
        self.decided: Decided | None = None
        """What the last step decided, once it was committed (for who watches)."""

    # ---- a lane's desk -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Fence former owners, then read the ledger and what is reserved."""
        self._producer = FencedProducer(
            transactional_config(self._settings, f"lane-{self.lane}"),
            in_turn=self._settings.transactions == "in-turn",
        )
        config = reader_config(self._settings)
        ledger = LedgerLog()
        for message in read_to_end(config, *self._ledger):
            ledger.take(message.key(), message.value())
        record = ledger.record() or LedgerRecord.fresh(self.lane)
        self.record, self._written = record, ledger.accounts()
        self._plan, self._waiting = None, False
        self.intake.forget()
        batches = [
            (message.offset() or 0, decode_reserved(value))
            for message in read_to_end(config, self._topics.reservations, self.lane, record.reservations_from)
            if (value := message.value()) is not None
        ]
        taken = batches[0][1].outcomes_next if batches else record.outcomes_next
        outcomes = (
            list(read_to_end(config, self._topics.outcomes, self.lane, taken, record.outcomes_next))
            if taken < record.outcomes_next
            else []
        )
        self._settlement.rebuild(record, batches, outcomes)
        self.shared.feed.watch(self.lane, record.outcomes_next, self._settlement.inbox)
        self.shared.on_record(record)
        self.look()
        self._log.info("lane_open", next=record.next, period=record.account.period, open=len(batches))

    def close(self) -> None:
        """Give up an open transaction."""
        self.shared.feed.unwatch(self.lane)
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def look(self) -> None:
        """Take up the newest plan."""
        plan = self.shared.plans.latest
        stale = plan is None or plan.revision < self.record.revision
        if stale or plan is None or plan.catalogue > self.shared.catalogue.latest.version:
            # a reader has not caught up yet with what this lane's last transaction rests on
            self._plan = None
            return
        self._plan, self._waiting = plan, waits(plan, self._settings.warmup)

    @property
    def position(self) -> int:
        """Offset of the next query to decide, or in warm-up to sample."""
        record, plan = self.record, self._plan
        if not self._waiting or (plan is not None and plan.period != record.account.period):
            return record.next  # samples of the period before are not this one's
        return max(record.next, record.sampled)

    @property
    def limit(self) -> int:
        """None before there is a plan; in lockstep up to the next solve."""
        plan = self._plan
        if plan is None or self.lane >= plan.lanes or (self._waiting and self.lane == plan.pool):
            return 0
        if self._settings.lockstep and not self._waiting and plan.until is not None:
            arrived = self.record.account.arrived if self.record.account.period == plan.period else 0
            return max(0, plan.until - arrived)
        return UNBOUNDED

    @property
    def restless(self) -> bool:
        """Outcomes wait, rights have to be given back, a period has begun, or reservations grow old."""
        plan = self._plan
        if plan is None or self.lane >= plan.lanes:
            return False
        if self._settlement.inbox or plan.period != self.record.account.period:
            return True
        if self._settlement.has_old(time.time()):
            return True
        left = self.record.account.widened(len(plan.models)).available(plan.granted[self.lane])
        return not self._waiting and bool((left > plan.target[self.lane]).any())

    def step(self, records: list[Record]) -> None:
        """One transaction: samples in warm-up, decisions after; outcomes always."""
        self.decided = None
        plan = self._plan
        if plan is None or self._producer is None:
            return
        if self._waiting:
            self._sample(plan, records)
        else:
            self._route(plan, records)
        self.shared.on_record(self.record)

    # ---- warm-up -----------------------------------------------------------------------------------------

    def _sample(self, plan: Plan, records: list[Record]) -> None:
        """Send estimates to the planner and pass over the queries: the log is the buffer."""
        record = self._entered(plan)
        with self.shared.stages.stage("intake", len(records)):
            arrivals = self.intake.take(records, remember=True)
        begin = max(record.sampled, record.next)
        first = arrivals.records[0].offset if arrivals.records else None
        refused = [one for one in arrivals.refused if first is None or one[0].offset < first]
        if records:
            record = replace(record, sampled=records[-1].offset + 1)
        with self.shared.stages.stage("sample", len(records)):
            self._begin()
            if refused and begin == record.next:
                # no query before them waits for a plan, so neither do they: with nothing else on the stream
                # there would never be one
                post_refused(self._out, self._topics, refused)
                account = replace(record.account, dead=record.account.dead + len(refused))
                begin = record.sampled if first is None else first
                record = replace(record, account=account, next=begin)
            record = self._settle(record)
            if arrivals.records:
                self._produce_samples(plan, record, begin, self._alignment(plan).apply(arrivals.estimates))
            self._commit(record)

    def _produce_samples(self, plan: Plan, record: LedgerRecord, begin: int, estimates: Estimates) -> None:
        """Estimates for the planner, with the account they belong to."""
        header = {
            "period": plan.period,
            "lane": self.lane,
            "account": account_to_dict(record.account),
            "next": record.next,
            # the stretch of the lane's input that they are of, so that a check can tell none is sent twice
            "begin": begin,
            "end": record.sampled,
            "models": plan.models,
        }
        value = encode_samples(header, estimates.quality, estimates.cost, "<f8")
        self._out(self._topics.samples, value, partition=0)

    # ---- routing -----------------------------------------------------------------------------------------

    def _route(self, plan: Plan, records: list[Record]) -> None:
        stages = self.shared.stages
        record = self._entered(plan)
        with stages.stage("intake", len(records)):
            arrivals = self.intake.take(records)
        with stages.stage("decide", len(records)):
            offsets = np.fromiter((r.offset for r in arrivals.records), np.int64, len(arrivals.records))
            begun = record.account.released_to(plan.granted[self.lane], plan.target[self.lane])
            alignment = self._alignment(plan)
            estimates = alignment.apply(arrivals.estimates)
            charges = self._charge(plan, arrivals, estimates)
            charge = charges.pico
            routed = route(
                begun, plan, self.lane, estimates, offsets, charge=charge, seed=self._settings.seed,
                comparable=alignment.comparable,
                explore=to_explore(self._settings, alignment, arrivals, self.lane, offsets, charge),
            )  # fmt: skip
            account = replace(routed.account, dead=routed.account.dead + len(arrivals.refused))
            sampled_from = max(record.sampled, record.next)
            position = records[-1].offset + 1 if records else record.next
            record = replace(record, account=account, next=position, sampled=max(record.sampled, position))
        with stages.stage("produce", len(records)):
            self._begin()
            decided = Decided(
                plan, self.lane, arrivals, estimates, charge, routed, offsets, charges.answer_tokens
            )
            post_queries(self._out, self._topics, self._llm_topics(plan), decided)
            post_refused(self._out, self._topics, arrivals.refused)
            record = self._settle(record)
            reserved = self._reserve(reservations(decided, begun, self.record, record))
            wanted = (plan.until is not None or not plan.learned) and self.lane != plan.pool
            if wanted and records:
                first = int(np.searchsorted(offsets, sampled_from))
                self._produce_samples(plan, record, sampled_from, estimates.rows(slice(first, None)))
        with stages.stage("commit", len(records)):
            self._commit(record, reserved)
        self.decided = decided

    def _alignment(self, plan: Plan) -> Alignment:
        """From the intake's columns to the plan's; made anew when the plan changes."""
        if self._aligned is None or self._aligned[0] is not plan:
            self._aligned = (plan, align(self.intake.models, plan))
        return self._aligned[1]

    def _llm_topics(self, plan: Plan) -> list[str]:
        """By the plan's LLMs; made anew when the plan changes."""
        if self._named is None or self._named[0] is not plan:
            models = self.shared.catalogue.models
            self._named = (plan, [self._topics.llm(models[name].slug) for name in plan.models])
        return self._named[1]

    def _charge(self, plan: Plan, arrivals: Arrivals, estimates: Estimates) -> Charges:
        """What each query would reserve on each LLM."""
        if arrivals.charge is not None:
            models = len(plan.models)
            more = max(0, models - arrivals.charge.shape[1])
            pico = np.pad(arrivals.charge[:, :models], ((0, 0), (0, more)))
            return Charges(pico, arrivals.answer_tokens)
        return self.shared.charge(arrivals.queries, estimates, plan.models)

    def _reserve(self, reserved: Reserved | None) -> tuple[list[int], Reserved] | None:
        """Write reservations down; the list gets the offset where."""
        if reserved is None:
            return None
        where: list[int] = []
        self._out(
            self._topics.reservations, encode_reserved(reserved), partition=self.lane, on_offset=where.append
        )
        return where, reserved

    # ---- transactions ------------------------------------------------------------------------------------

    def _entered(self, plan: Plan) -> LedgerRecord:
        """The record in the plan's period; accounts of those before are kept while they may change."""
        record = self.record
        account = enter(record.account, plan)
        if account.period != record.account.period:
            # what was sampled for the period before, ahead of what was decided, is to be sampled for this one
            record = replace(record.entering(account), sampled=record.next)
        open_since = self._settlement.reservations.first_period
        # a successor of the planner may want to read what no bill that is written for good has yet
        over = min(plan.billed, (account.period if open_since is None else open_since) - 1)
        record = record.forgetting(over)
        return replace(
            record, account=account, models=plan.models, version=plan.version, revision=plan.revision
        )

    def _settle(self, record: LedgerRecord) -> LedgerRecord:
        """Take in the outcomes that wait, and give up reservations that are too old."""
        inbox = self._settlement.inbox
        messages = [inbox.popleft() for _ in range(min(len(inbox), OUTCOMES_MAX))]
        now = time.time()
        if messages:
            with self.shared.stages.stage("settle", len(messages)):
                settled = self._settlement.settle(record, messages)
                record = settled.record
                for message, error in settled.refused:
                    headers = dead_letter_headers(
                        headers_of(message), error, self._topics.outcomes, self.lane,
                        message.offset() or 0, int(now * 1000),
                    )  # fmt: skip
                    self._out(self._topics.outcomes_dlq, message.value(), message.key(), headers)
        return self._settlement.expire(record, now)

    def _begin(self) -> None:
        assert self._producer is not None
        self._producer.begin()
        self._out = self._producer.produce

    def _commit(self, record: LedgerRecord, reserved: tuple[list[int], Reserved] | None = None) -> None:
        """Write the record and commit; only then is it true."""
        assert self._producer is not None
        # never kept from before when all have lapsed: a restart would let them lapse a second time
        oldest = self._settlement.reservations.oldest()
        record = replace(record, reservations_from=oldest, written_at=time.time())
        topic, partition = self._ledger
        for period in self._written.keys() - record.past.keys():
            self._out(topic, None, account_key(self.lane, period), partition=partition)
        for period, account in record.past.items():
            if account is not self._written.get(period):
                self._out(
                    topic, record.encode_account(period), account_key(self.lane, period), partition=partition
                )
        # last, for it is what makes them true
        self._out(topic, record.encode(), lane_key(self.lane), partition=partition)
        self._producer.commit()
        self._written = record.past
        if reserved is not None:
            where, batch = reserved
            self._settlement.reservations.add(where[0], batch)
        self.record = record


def _no_transaction(*arguments: object, **options: object) -> None:
    raise AssertionError("a message was produced outside of a transaction")
