"""Objects that all gateways share: batches, files and claims of ids, on a compacted topic."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from confluent_kafka import Message

from producers.gateway.api_errors import SERVER_ERROR, ApiError
from producers.gateway.query_sender import QuerySender
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.follower import Follower
from streams.messages.gateway_object import DELETION, decode_gateway_object
from streams.messages.rejection import RejectedMessage

log = structlog.get_logger(__name__)

DAY = 24 * 3600.0
KEPT_SECONDS = {"claim": 2 * DAY, "response": 7 * DAY}
"""Time for which objects of a kind are kept; answers are kept for seven days."""

KEPT_OTHERS_SECONDS = 30 * DAY
"""The same for other kinds, as on their topic."""

PURGE_EVERY = 10_000
"""Records after which expired objects are removed from memory."""

VISIBLE_SECONDS = 15.0

StoredObject = dict[str, Any]
"""Fields of an object. `kind`, `owner` and `created_at` (seconds since 1970) are those of every object."""


class ObjectStore:
    """A copy of the topic in memory, which a thread keeps up to date.

    Parameters
    ----------
    settings : Settings
    sender : QuerySender
    """

    def __init__(self, settings: Settings, sender: QuerySender) -> None:
        self._topic, self._sender = settings.topics.gateway_objects, sender
        self._objects: dict[str, StoredObject] = {}
        self._lock = threading.Lock()
        self._next = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._follower = Follower(
            reader_config(settings, f"{settings.app_id}-gateway"), self._topic, 1, self._read
        )

    @property
    def failure(self) -> BaseException | None:
        """Error that ended the reader; None while it runs."""
        return self._follower.failure

    def start(self, seconds: float) -> None:
        """Start to follow the topic, and wait until it was read to its end.

        Raises
        ------
        ValueError
            It was not read within `seconds`.
        """
        self._follower.start()
        if not self._follower.ready.wait(seconds) or self._follower.failure is not None:
            raise ValueError(f"topic {self._topic}: cannot be read; run `python -m streams topics create`")

    def stop(self) -> None:
        """Stop following."""
        self._follower.stop()

    def get(self, identity: str) -> StoredObject | None:
        """Return an object, or None if it is missing or expired."""
        with self._lock:
            stored = self._objects.get(identity)
        return None if stored is None or is_expired(stored, time.time()) else stored

    def select(self, condition: Callable[[StoredObject], bool]) -> dict[str, StoredObject]:
        """Return the objects that fulfil a condition, by id, newest first."""
        now = time.time()
        with self._lock:
            matches = [
                (identity, item)
                for identity, item in self._objects.items()
                if not is_expired(item, now) and condition(item)
            ]
        return dict(sorted(matches, key=lambda pair: pair[1]["created_at"], reverse=True))

    async def put(self, identity: str, fields: StoredObject | None) -> None:
        """Write an object, or delete it, and return once this gateway's copy has seen the record.

        A claim is ignored if the id is claimed already; read the object to see whose claim holds.

        Raises
        ------
        ApiError
            Status 503: it was not delivered, or not read back in time.
        """
        value = DELETION if fields is None else orjson.dumps(fields)
        _, offset = await self._sender.send(self._topic, identity, value, partition=0)
        visible: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._next > offset:
                return
            self._waiting.append((offset, visible))
        try:
            async with asyncio.timeout(VISIBLE_SECONDS):
                await visible
        except TimeoutError:
            raise ApiError(
                503,
                "Kafka did not return a record in time.",
                SERVER_ERROR,
                code="broker_unavailable",
                headers={"Retry-After": "2"},
            ) from None

    def _read(self, message: Message) -> None:
        """Apply a record; called in the follower's thread."""
        identity = (message.key() or b"").decode("utf-8", "replace")
        try:
            fields = decode_gateway_object(message.value())
        except RejectedMessage as error:
            log.warning("gateway_object_not_read", offset=message.offset(), reason=str(error))
            fields = self._objects.get(identity)
        with self._lock:
            if fields is None:
                self._objects.pop(identity, None)
            elif replaces(self._objects.get(identity), fields):
                self._objects[identity] = fields
            self._next = (message.offset() or 0) + 1
            if self._next % PURGE_EVERY == 0:
                now = time.time()
                self._objects = {
                    key: item for key, item in self._objects.items() if not is_expired(item, now)
                }
            ready = [future for offset, future in self._waiting if offset < self._next]
            self._waiting = [pair for pair in self._waiting if pair[0] >= self._next]
        for future in ready:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, future)


def is_expired(item: StoredObject, now: float) -> bool:
    """Return whether an object is too old to be used.

    Examples
    --------
    >>> is_expired({"kind": "response", "created_at": 0.0}, 6 * DAY)
    False
    >>> is_expired({"kind": "response", "created_at": 0.0}, 8 * DAY)
    True
    """
    return bool(item["created_at"] < now - KEPT_SECONDS.get(item["kind"], KEPT_OTHERS_SECONDS))


def replaces(stored: StoredObject | None, fields: StoredObject) -> bool:
    """Return whether a record replaces the object held under its id.

    Of several claims of an id the first one holds, until a later one names it as lapsed.

    Examples
    --------
    >>> first = {"claim": "a", "created_at": 100.0}
    >>> replaces(first, {"claim": "b", "created_at": 101.0})
    False
    >>> replaces(first, {"claim": "b", "created_at": 130.0, "after": "a"})
    True
    """
    if stored is None or "claim" not in fields:
        return True
    return fields.get("after") == stored.get("claim")


def _finish(visible: asyncio.Future[None]) -> None:
    if not visible.done():
        visible.set_result(None)
