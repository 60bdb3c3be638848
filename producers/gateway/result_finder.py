"""Results of queries that any gateway sent: noted as they pass, or found by reading their topics again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from confluent_kafka import KafkaException, Message

from producers.gateway.api_errors import SERVER_ERROR, ApiError
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.scanner import Scanner

P = ParamSpec("P")
T = TypeVar("T")

MAX_NOTED = 200_000
"""Results whose place is kept in memory, about 30 MB."""

CLOCK_SECONDS = 60.0
"""Maximum difference between the clocks of gateways, brokers and workers."""

Place = tuple[str, int, int]
"""Topic, partition and offset."""


class ResultFinder:
    """Finds results by query id.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        topics = settings.topics
        self._queries = topics.queries
        self._names = (topics.answers, topics.unserved, topics.dlq)
        self._config = reader_config(settings, f"{settings.app_id}-gateway")
        self._places: OrderedDict[bytes, Place] = OrderedDict()

    def note(self, message: Message) -> None:
        """Remember the place of a result that passes. Called in the event loop."""
        self._places[message.key() or b""] = (
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
        )
        if len(self._places) > MAX_NOTED:
            self._places.popitem(last=False)

    async def find(self, identity: str, since: float) -> Message | None:
        """Return the result of a query; None if it has none.

        Parameters
        ----------
        identity : str
        since : float
            Time of the query, in seconds since 1970.

        Raises
        ------
        ApiError
            Status 503: the topics cannot be read.
        """
        key = identity.encode()
        result = await _in_thread(self._find, key, self._places.get(key), since)
        if result is not None:
            self.note(result)
        return result

    async def was_sent(self, identity: str, since: float) -> bool:
        """Return whether a query is on the topic of queries.

        Raises
        ------
        ApiError
            Status 503: the topic cannot be read.
        """
        return await _in_thread(self._scan, identity.encode(), (self._queries,), since) is not None

    def _find(self, key: bytes, place: Place | None, since: float) -> Message | None:
        if place is not None:
            with Scanner(self._config) as scanner:
                message = scanner.message_at(*place)
            if message is not None and message.key() == key:
                return message
        return self._scan(key, self._names, since)

    def _scan(self, key: bytes, names: tuple[str, ...], since: float) -> Message | None:
        with Scanner(self._config) as scanner:
            places = [place for name in names for place in scanner.places(name)]
            starts = scanner.places_since(places, since - CLOCK_SECONDS)
            return next((message for message in scanner.read(starts) if message.key() == key), None)


async def _in_thread(call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(call, *arguments, **options)
    except (KafkaException, TimeoutError) as error:
        raise ApiError(
            503,
            f"Kafka cannot be read ({error}).",
            SERVER_ERROR,
            code="broker_unavailable",
            headers={"Retry-After": "2"},
        ) from None
