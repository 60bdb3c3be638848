"""The exchange of queries for their results: each caller waits for the result of its own query."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Message

from producers.gateway.api_errors import NO_RETRY, SERVER_ERROR, ApiError
from producers.gateway.object_store import ObjectStore, StoredObject
from producers.gateway.query_sender import QuerySender
from producers.gateway.result_finder import ResultFinder
from producers.gateway.result_reader import GATEWAY_HEADER, ResultReader
from producers.gateway.results import Completion, read_result
from producers.session_partition import session_partition
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient

DELIVERY_SECONDS = 10.0
STALL_SECONDS = 60.0
START_SECONDS = 30.0

LAPSE_SECONDS = 2 * DELIVERY_SECONDS
"""Age of a claim whose query is not delivered, after which its gateway must have died."""

CLAIM_SECONDS = 24 * 3600.0
"""Time for which an idempotency key stands for its first request."""

LOOK_SECONDS = 0.5


class QueryExchange:
    """Sends queries and resolves the futures of those that wait for them. Create it in the event loop.

    Parameters
    ----------
    settings : Settings
    admin : AdminClient
    """

    def __init__(self, settings: Settings, admin: AdminClient) -> None:
        self._topics, self._partitions = settings.topics, settings.partitions
        self._loop = asyncio.get_running_loop()
        self._waiting: defaultdict[str, set[asyncio.Future[Message]]] = defaultdict(set)
        self.gateway = secrets.token_hex(8)
        """Id of this gateway, in a header of every query."""
        self._reader = ResultReader(settings, admin, self._result_read)
        self._finder = ResultFinder(settings)
        self.sender = QuerySender(settings, DELIVERY_SECONDS)
        self.store = ObjectStore(settings, self.sender)

    @property
    def problem(self) -> str | None:
        """Why results are not read; None while they are."""
        if (failure := self._reader.failure or self.store.failure) is not None:
            return f"a reader ended: {failure!r}"
        age = time.monotonic() - self._reader.polled_at
        return f"results were not read for {age:.0f} s" if age > STALL_SECONDS else None

    async def start(self) -> None:
        """Start to read results and objects.

        Raises
        ------
        ValueError
            A topic cannot be read.
        """
        self._reader.start()
        await asyncio.to_thread(self.store.start, START_SECONDS)

    def stop(self) -> None:
        """Stop; queries that wait get no result from this gateway."""
        self.sender.stop()
        self._reader.stop()
        self.store.stop()

    async def send_and_wait(
        self, identity: str, value: bytes, seconds: float, claim: StoredObject | None
    ) -> Completion:
        """Send a query and return its answer.

        Parameters
        ----------
        identity : str
            Id of the query, and key of its message.
        value : bytes
        seconds : float
            Longest wait, delivery included.
        claim : dict, optional
            The request may come again, also to other gateways: send its query once (`send_once`).

        Raises
        ------
        ApiError
            The query was not delivered, not served, not answered, or not in time.
        """
        with self._wait_for(identity) as result:
            try:
                async with asyncio.timeout(seconds):
                    if claim is None:
                        await self.send(identity, value)
                    else:
                        standing = await self.send_once(identity, value, claim)
                        if (message := await self._finder.find(identity, standing["created_at"])) is not None:
                            return self._read(message)
                    return self._read(await result)
            except TimeoutError:
                raise ApiError(
                    504,
                    f"The query {identity} has no answer after {seconds:g} s; its deadline has passed.",
                    SERVER_ERROR,
                    code="timeout",
                    headers=NO_RETRY,
                ) from None

    async def send(self, identity: str, value: bytes) -> None:
        """Send a query.

        Raises
        ------
        ApiError
            Status 503: it was not delivered.
        """
        headers: list[tuple[str, bytes | None]] = [(GATEWAY_HEADER, self.gateway.encode())]
        partition = session_partition(value, self._partitions)
        await self.sender.send(
            self._topics.queries, identity, value, headers, -1 if partition is None else partition
        )

    async def send_once(self, identity: str, value: bytes, claim: StoredObject) -> StoredObject:
        """Send a query that other requests may send, too; return the claim that holds once it is sent.

        The gateway whose claim of the id is the first on the topic sends the query. The others look for the
        query. If it is not there when the claim has lapsed, the gateway of the claim died before it sent it.

        Parameters
        ----------
        identity : str
            Equal for equal requests.
        value : bytes
        claim : dict
            Fields of the object: `owner` and `fingerprint` must be equal for equal requests.

        Raises
        ------
        ApiError
            Another request has the same id, or Kafka is not available.
        """
        own = secrets.token_hex(8)
        standing = self.store.get(identity)
        if standing is None or standing["created_at"] < time.time() - CLAIM_SECONDS:
            standing = await self._claim(identity, claim, own, standing)
        while True:
            if any(standing.get(name) != claim.get(name) for name in ("owner", "fingerprint")):
                raise ApiError(
                    400,
                    "The idempotency key was used for another request; use a new key.",
                    code="idempotency_key_reused",
                    headers=NO_RETRY,
                )
            if standing["claim"] == own:
                await self.send(identity, value)
                return standing
            if await self._finder.was_sent(identity, standing["created_at"]):
                return standing
            if standing["created_at"] < time.time() - LAPSE_SECONDS:
                standing = await self._claim(identity, claim, own, standing)
            else:
                await asyncio.sleep(LOOK_SECONDS)
                standing = self.store.get(identity) or standing

    async def find(self, identity: str, since: float) -> Completion | None:
        """Return the answer of a query that any gateway sent; None if it has no result yet.

        Raises
        ------
        ApiError
            The query was not served or not answered, or Kafka is not available.
        """
        message = await self._finder.find(identity, since)
        return None if message is None else self._read(message)

    async def was_sent(self, identity: str, since: float) -> bool:
        """Return whether a query is on the topic of queries."""
        return await self._finder.was_sent(identity, since)

    async def _claim(
        self, identity: str, claim: StoredObject, own: str, previous: StoredObject | None
    ) -> StoredObject:
        after = {} if previous is None else {"after": previous["claim"]}
        await self.store.put(identity, {**claim, "claim": own, "created_at": time.time(), **after})
        standing = self.store.get(identity)
        assert standing is not None, "the record was read back"
        return standing

    @contextmanager
    def _wait_for(self, identity: str) -> Iterator[asyncio.Future[Message]]:
        result: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[identity].add(result)
        try:
            yield result
        finally:
            self._waiting[identity].discard(result)
            if not self._waiting[identity]:
                del self._waiting[identity]

    def _result_read(self, message: Message) -> None:
        """Pass a result on to the event loop; called in the reader's thread."""
        self._loop.call_soon_threadsafe(self._resolve, message)

    def _resolve(self, message: Message) -> None:
        self._finder.note(message)
        identity = (message.key() or b"").decode("utf-8", "replace")
        # the caller may have left, another gateway may serve it, or a dead letter may have been replayed
        for result in self._waiting.get(identity, ()):
            if not result.done():
                result.set_result(message)

    def _read(self, message: Message) -> Completion:
        try:
            return read_result(message, self._topics)
        except (ValueError, TypeError, AttributeError) as error:  # no router or fleet wrote it
            raise ApiError(
                500, f"The result cannot be read: {error!r}.", SERVER_ERROR, headers=NO_RETRY
            ) from None
