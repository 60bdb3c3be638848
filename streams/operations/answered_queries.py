"""Answered queries with reported quality, joined from the topics of routed queries and of outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from streams.config.settings import Settings
from streams.config.topic_names import Topics
from streams.kafka.clients import reader_config
from streams.kafka.scanner import Scanner
from streams.messages.decision import decode_decision
from streams.messages.outcome import Outcome, decode_outcome
from streams.messages.query import decode_query
from streams.messages.rejection import RejectedMessage
from streams.messages.routing_info import RoutingInfo

Reservation = tuple[int, int, int]
"""Lane, offset and attempt."""


def answered_queries(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield `id`, `prompt`, `model`, `quality` and `cost` of each answered query that both topics still have.

    The first outcome of a reservation counts, as it does for the router.

    Raises
    ------
    KafkaException, TimeoutError
        A topic cannot be read.
    """
    topics = settings.topics
    with Scanner(reader_config(settings)) as scanner:
        graded = _read_grades(scanner, topics)
        prefix = topics.llm("")
        for topic in sorted(name for name in scanner.topics() if name.startswith(prefix)):
            for message in scanner.read(scanner.places(topic)):
                if (answered := _join(message.value(), graded)) is not None:
                    yield answered


def graded_decisions(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the records of the decision log whose outcome reports a quality, with it as `reported`.

    Raises
    ------
    KafkaException, TimeoutError
        A topic cannot be read.
    """
    topics = settings.topics
    with Scanner(reader_config(settings)) as scanner:
        graded = _read_grades(scanner, topics)
        for message in scanner.read(scanner.places(topics.decisions)):
            if (decision := decode_decision(message.value())) is None:
                continue
            outcome = graded.get((decision["partition"], decision["offset"], decision["attempt"]))
            if outcome is not None and (outcome.id, outcome.model) == (decision["id"], decision["model"]):
                yield decision | {"reported": outcome.quality}


def _read_grades(scanner: Scanner, topics: Topics) -> dict[Reservation, Outcome]:
    """Return the outcomes that report a quality. The first outcome of a reservation counts."""
    outcomes: dict[Reservation, Outcome] = {}
    for message in scanner.read(scanner.places(topics.outcomes)):
        try:
            outcome = decode_outcome(message.value())
        except RejectedMessage:
            continue
        outcomes.setdefault((outcome.partition, outcome.offset, outcome.attempt), outcome)
    return {place: outcome for place, outcome in outcomes.items() if outcome.quality is not None}


def _join(value: bytes | None, graded: Mapping[Reservation, Outcome]) -> dict[str, Any] | None:
    """Return a routed query with what its outcome reports; None if it has no grade."""
    try:
        query = decode_query(value, None)
        routing = RoutingInfo.find(orjson.loads(value or b"null"))
    except (RejectedMessage, ValueError):
        return None
    if routing is None:
        return None
    outcome = graded.get((routing.partition, routing.offset, routing.attempt))
    if outcome is None or (outcome.id, outcome.model) != (query.id, routing.model):
        return None
    return {
        "id": query.id,
        "prompt": query.prompt,
        "model": outcome.model,
        "quality": outcome.quality,
        "cost": outcome.cost,
    }
