"""Search for a query by its id in reservations, unserved queries, dead letters and waiting queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import orjson
from confluent_kafka import Message, TopicPartition

from routing.budgets.model import Model
from streams.config.settings import Settings
from streams.kafka.scanner import CLOCK_SECONDS, Scanner, written_at
from streams.ledger.account_format import period_of
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch, decode_reservations, id_digest
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.deferred import Deferral, split_overflow_header
from streams.messages.headers import headers_of
from streams.messages.rejection import RejectedMessage
from streams.messages.routing_info import RoutingInfo
from streams.messages.unserved import UnservedReason

Stage = Literal["routed", "unserved", "refused", "deferred", "waiting"]


@dataclass(frozen=True)
class RecordedDecision:
    """One recorded decision about a query, or a query that waits for one.

    Parameters
    ----------
    stage : str
        Result of the decision.
    lane, offset : int
        Lane that decided, and offset of the query in its input.
    at : float
        Time of the decision, in seconds since the epoch.
    message : Message or None
        Output of the decision; None if it was deleted.
    reservations : ReservationBatch or None
        Reservations of the transaction; None if they were deleted, or for a query that is not decided.
    attempt : int
        Number of the decision about the query.
    row : int or None
        Its row in `reservations`; None if it reserved nothing.
    """

    stage: Stage
    lane: int
    offset: int
    at: float
    message: Message | None = None
    reservations: ReservationBatch | None = None
    attempt: int = 1
    row: int | None = None

    @property
    def expired(self) -> bool:
        """True if the query was left unserved because of its deadline."""
        if self.stage != "unserved" or self.message is None:
            return False
        return bool(_fields(self.message).get("reason") == UnservedReason.EXPIRED)


class QuerySearch:
    """Searches for queries.

    Parameters
    ----------
    settings : Settings
    scanner : Scanner
    names : callable
        Returns the LLMs of a plan's revision in their order; empty if the plan is unknown.
    llms : iterable of str
        All LLMs of all plans.
    since : float, optional
        Start of the search, in seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        scanner: Scanner,
        names: Callable[[int], tuple[str, ...]],
        llms: Iterable[str],
        since: float | None = None,
    ) -> None:
        self._settings, self._topics = settings, settings.topics
        self._scanner, self._names, self._llms, self._since = scanner, names, list(llms), since

    def find(self, query_id: str) -> list[RecordedDecision]:
        """Return all decisions about queries of this id in the order of time."""
        decisions = [self._routed_decision(*place) for place in self._reservations(query_id)]
        decisions += [self._final_decision(message) for message in self._ends(query_id)]
        if not decisions:
            decisions = self._routed_long_ago(query_id)
        decisions += self._deferrals(query_id, decisions)
        return sorted(decisions or self._waiting(query_id), key=lambda decision: decision.at)

    # ---- served ------------------------------------------------------------------------------------------

    def _reservations(self, query_id: str) -> list[tuple[int, ReservationBatch, int]]:
        """Return lane, transaction and row in it of every decision that routed a query of this id."""
        digest = np.uint64(id_digest(query_id))
        reservations = []
        for message in self._all(self._topics.reservations):
            batch = decode_reservations(message.value() or b"")
            for row in np.flatnonzero(batch.ids == digest):
                reservations.append((int(message.partition() or 0), batch, int(row)))
        return reservations

    def _routed_decision(self, lane: int, batch: ReservationBatch, row: int) -> RecordedDecision:
        offset, attempt = int(batch.offsets[row]), int(batch.attempts[row])
        message = self._on_llm_topic(lane, offset, attempt, batch, int(batch.model[row]))
        return RecordedDecision("routed", lane, offset, batch.created_at, message, batch, attempt, row)

    def _on_llm_topic(
        self, lane: int, offset: int, attempt: int, batch: ReservationBatch, model: int
    ) -> Message | None:
        names = self._names(batch.revision)
        if model >= len(names):
            return None
        topic = self._topics.llm(Model(names[model]).slug)
        places = self._scanner.places_since(self._scanner.places(topic), batch.created_at)
        for message in self._scanner.read(places):
            routing = RoutingInfo.find(_fields(message))
            if routing is None:
                continue
            if (routing.partition, routing.offset, routing.attempt) == (lane, offset, attempt):
                return message
        return None

    def _routed_long_ago(self, query_id: str) -> list[RecordedDecision]:
        """Return served queries whose reservations were deleted, from the topics of LLMs."""
        decisions = []
        for name in self._llms:
            for message in self._with_id(query_id, self._all(self._topics.llm(Model(name).slug))):
                decision = RecordedDecision("routed", *_decision_of(message), message)
                decisions.append(replace(decision, attempt=_attempt_of(message)))
        return decisions

    # ---- not served --------------------------------------------------------------------------------------

    def _ends(self, query_id: str) -> list[Message]:
        """Return unserved queries and dead letters of this id."""
        return list(self._with_id(query_id, self._all(self._topics.unserved, self._topics.dlq)))

    def _final_decision(self, message: Message) -> RecordedDecision:
        if message.topic() == self._topics.dlq:
            _, error = split_dead_letter_headers(headers_of(message))
            # a letter of a fleet belongs to no lane
            lane = int(error.get("partition", -1)) if error.get("topic") == self._topics.queries else -1
            if error.get("topic") == self._topics.overflow:
                lane = self._settings.partitions
            return RecordedDecision(
                "refused", lane, int(error.get("offset", -1)), written_at(message), message
            )
        lane, offset, at = _decision_of(message)
        attempt = _attempt_of(message)
        transaction = self.transaction(lane, offset, at) if attempt == 1 else None
        return RecordedDecision("unserved", lane, offset, at, message, transaction, attempt)

    def _deferrals(self, query_id: str, decisions: list[RecordedDecision]) -> list[RecordedDecision]:
        """Return deferrals: those before decisions of the overflow lane, or those that wait for one."""
        pool = self._settings.partitions
        offsets = {decision.offset for decision in decisions if decision.lane == pool}
        messages = [self._scanner.message_at(self._topics.overflow, 0, offset) for offset in sorted(offsets)]
        if not decisions:
            messages = list(self._with_id(query_id, self._all(self._topics.overflow)))
        return [self._deferral(message) for message in messages if message is not None]

    def _deferral(self, message: Message) -> RecordedDecision:
        source = deferred_from(message)
        at = written_at(message)
        return RecordedDecision("deferred", *source, at, message, self.transaction(*source, at))

    def _waiting(self, query_id: str) -> list[RecordedDecision]:
        """Return queries of this id that no lane has decided."""
        following: dict[int, int] = {}
        for message in self._all(self._topics.ledger):
            if (value := message.value()) is not None and period_of(message.key()) is None:
                following[int(message.partition() or 0)] = LedgerRecord.decode(value).next
        places = [
            TopicPartition(place.topic, place.partition, following.get(place.partition, 0))
            for place in self._scanner.places(self._topics.queries)
        ]
        return [
            RecordedDecision(
                "waiting",
                int(message.partition() or 0),
                int(message.offset() or 0),
                written_at(message),
                message,
            )
            for message in self._with_id(query_id, self._scanner.read(places))
        ]

    # ---- parts of topics ---------------------------------------------------------------------------------

    def transaction(self, lane: int, offset: int, at: float) -> ReservationBatch | None:
        """Return the transaction in which a lane decided the query at this offset and about this time."""
        place = TopicPartition(self._topics.reservations, lane)
        if not 0 <= lane < self._scanner.partitions(self._topics.reservations):
            return None
        for message in self._scanner.read(self._scanner.places_since([place], at)):
            batch = decode_reservations(message.value() or b"")
            if batch.begin <= offset < batch.end:
                return batch
            if batch.begin > offset or batch.created_at > at + 2 * CLOCK_SECONDS:
                break
        return None

    def input_of(self, decision: RecordedDecision) -> Message | None:
        """Return the input of a decision, or None if it was deleted."""
        pool = decision.lane == self._settings.partitions
        topic = self._topics.overflow if pool else self._topics.queries
        return self._scanner.message_at(topic, 0 if pool else decision.lane, decision.offset)

    def _all(self, *topics: str) -> Iterator[Message]:
        places = [place for topic in topics for place in self._scanner.places(topic)]
        if self._since is not None:
            places = self._scanner.places_since(places, self._since)
        return self._scanner.read(places)

    def _with_id(self, query_id: str, messages: Iterable[Message]) -> Iterator[Message]:
        plain = query_id.encode()
        for message in messages:
            value = message.value() or b""
            # an id may contain escapes; other values without the id need no decoding
            if (plain in value or b"\\" in value) and _fields(message).get("id") == query_id:
                yield message


def deferred_from(message: Message) -> tuple[int, int]:
    """Return lane and offset of a deferred query before its deferral, from the router's header."""
    try:
        return Deferral.decode(split_overflow_header(headers_of(message))[1]).source
    except (KeyError, RejectedMessage):
        return -1, -1


def _fields(message: Message) -> dict[str, Any]:
    try:
        fields = orjson.loads(message.value() or b"")
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _attempt_of(message: Message) -> int:
    routing = RoutingInfo.find(_fields(message))
    return 1 if routing is None else routing.attempt


def _decision_of(message: Message) -> tuple[int, int, float]:
    """Return lane, offset and time of the decision; -1 and the message's own time if it does not say."""
    routing = RoutingInfo.find(_fields(message))
    if routing is None:
        return -1, -1, written_at(message)
    at = written_at(message) if routing.routed_at is None else routing.routed_at
    return routing.partition, routing.offset, at
