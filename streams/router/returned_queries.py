"""Returned queries of a lane: settle their attempts, and decide them again without the LLMs tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from routing.arrays import IntArray
from routing.policy.plan import Plan
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch
from streams.ledger.returns import AcceptedReturn, settle_returns
from streams.ledger.settlement import Settlement
from streams.messages.query import decode_query, encode_unserved
from streams.messages.record import Record
from streams.messages.rejection import RejectedMessage
from streams.messages.returned import without_routing
from streams.messages.routing_info import Attempt, RoutingInfo
from streams.messages.unserved import UnservedReason
from streams.router.batch import DecidedBatch, Intake, IntakeBatch
from streams.router.context import WorkerContext
from streams.router.decision_log import produce_decisions
from streams.router.outputs import (
    build_reservations,
    produce_dead_letters,
    produce_queries,
    produce_rejected_outcomes,
)
from streams.router.routing_pass import PlanColumns, decide_batch

log = structlog.get_logger(__name__)

MAX_RETURNS_PER_TRANSACTION = 200


@dataclass(frozen=True)
class ReturnedDecisions:
    """Result of deciding returned queries.

    Parameters
    ----------
    record : LedgerRecord
    batch : DecidedBatch or None
    reservations : ReservationBatch or None
        None if no return was accepted.
    """

    record: LedgerRecord
    batch: DecidedBatch | None = None
    reservations: ReservationBatch | None = None


class ReturnedQueries:
    """Decides the returned queries of one lane.

    Parameters
    ----------
    shared : WorkerContext
    lane : int
    topic : str
        Topic of the lane's input.
    partition : int
    intake : Intake
        Decodes and estimates queries as they were on the topic of queries.
    """

    def __init__(self, shared: WorkerContext, lane: int, topic: str, partition: int, intake: Intake) -> None:
        self._shared, self._topics = shared, shared.settings.topics
        self._lane, self._input, self._intake = lane, (topic, partition), intake
        self._columns = PlanColumns(intake.models, self._topics, intake.clusters)
        self._is_overflow = topic == self._topics.overflow

    def process(
        self, out: Callable[..., None], settlement: Settlement, plan: Plan, record: LedgerRecord
    ) -> ReturnedDecisions:
        """Settle waiting returned queries, and produce each to the LLM that gets it next, or as unserved.

        Parameters
        ----------
        out : callable
            `FencedProducer.produce` of the open transaction.
        settlement : Settlement
            The lane's; its inbox of returned queries is emptied.
        plan : Plan
        record : LedgerRecord
            The lane's record in the plan's period.
        """
        messages = settlement.returned.pop_batch(MAX_RETURNS_PER_TRANSACTION)
        if not messages:
            return ReturnedDecisions(record)
        now, topics = self._shared.clock(), self._topics
        result = settle_returns(settlement, record, messages)
        record = result.record
        produce_rejected_outcomes(out, topics, topics.returned, self._lane, result.refused, now)
        if not result.accepted:
            return ReturnedDecisions(record)
        exhausted: list[AcceptedReturn] = []
        to_decide: list[AcceptedReturn] = []
        for one in result.accepted:
            (exhausted if self._is_exhausted(one, plan) else to_decide).append(one)
        arrivals = self._intake.decode([_OriginalQuery(one, *self._input) for one in to_decide])
        arrivals = self._with_attempts(arrivals, to_decide)
        batch = decide_batch(self._shared, self._columns, plan, record, arrivals)
        parts = self._shared.settings.llm_topic_partitions
        names = self._columns.llm_topics(plan)
        produce_queries(out, topics, names, batch, now, parts, self._shared.answer_limit)
        if self._shared.settings.decision_log:
            produce_decisions(out, topics, batch, now)
        refused: list[tuple[Record, RejectedMessage]] = list(arrivals.refused)
        for one in exhausted:
            try:
                self._leave_unserved(out, plan, one, now)
            except RejectedMessage as error:
                refused.append((_OriginalQuery(one, *self._input), error))
        produce_dead_letters(out, topics, refused, now)
        unserved = len(exhausted) - (len(refused) - len(arrivals.refused))
        account = batch.decisions.account.decided_again(len(arrivals.queries), unserved)
        record = replace(record, account=replace(account, dead=account.dead + len(refused)))
        reservations = build_reservations(batch, record, record, now, settled_by(result.accepted))
        log.info(
            "queries_returned", partition=self._lane, queries=len(result.accepted), all_failed=len(exhausted)
        )
        return ReturnedDecisions(record, batch, reservations)

    def _is_exhausted(self, one: AcceptedReturn, plan: Plan) -> bool:
        """Return True if no attempt is left, or no open LLM that has not been tried."""
        tried = set(one.query.tried)
        untried = any(
            name not in tried for name, active in zip(plan.models, plan.active, strict=True) if active
        )
        return one.query.routing.attempt >= self._shared.settings.max_attempts or not untried

    def _with_attempts(self, arrivals: IntakeBatch, returns: Sequence[AcceptedReturn]) -> IntakeBatch:
        of = {one.query.routing.offset: one.query for one in returns}
        queries = [of[record.offset] for record in arrivals.records]
        attempts = [Attempt(query.routing.attempt + 1, query.tried) for query in queries]
        sources = [query.routing.origin for query in queries] if self._is_overflow else None
        return replace(arrivals, attempts=attempts, sources=sources)

    def _leave_unserved(self, out: Callable[..., None], plan: Plan, one: AcceptedReturn, now: float) -> None:
        routing = one.query.routing
        query = decode_query(one.message.value(), None)
        decision = RoutingInfo(
            plan.version,
            plan.period,
            self._lane,
            now,
            routing.offset,
            routing.origin if self._is_overflow else None,
            attempt=routing.attempt + 1,
            tried=one.query.tried,
        )
        value = encode_unserved(query, UnservedReason.ALL_FAILED, decision)
        out(self._topics.unserved, value, one.message.key(), one.query.headers or None)


def settled_by(accepted: Sequence[AcceptedReturn]) -> IntArray:
    """Return offset, attempt and picodollars of the reservations that returns settled, shape [r, 3]."""
    rows = [(one.query.routing.offset, one.query.routing.attempt, one.paid) for one in accepted]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


class _OriginalQuery:
    """A returned query in the form of the record that the lane decided first."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, one: AcceptedReturn, topic: str, partition: int) -> None:
        message = one.message
        self.topic, self.partition, self.offset = topic, partition, one.query.routing.offset
        self.key = message.key()
        self.value: bytes | None = without_routing(message.value() or b"")
        self.timestamp, self.headers = message.timestamp()[1], one.query.headers
