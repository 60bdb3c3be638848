"""A fleet worker: poll queries, request their answers concurrently, commit finished answers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog
from confluent_kafka import Message

from producers.fleet.activity import FleetActivity
from producers.fleet.endpoint import EndpointClient, EndpointReply
from producers.fleet.grader import Grader
from producers.fleet.messages import (
    MAX_ANSWER_BYTES,
    Pricing,
    RoutedQuery,
    Tokens,
    chat_request,
    decode_routed_query,
    encode_answer,
    encode_spent,
)
from producers.fleet.outage import EndpointOutage
from producers.fleet.stream import Finished, FleetStream, Outgoing
from routing.budgets.model import Model
from streams.config.settings import Settings
from streams.kafka.time_limits import time_limit
from streams.messages.cloud_events import EventType, event_headers, event_source
from streams.messages.dead_letter import dead_letter_headers
from streams.messages.headers import headers_of
from streams.messages.outcome import EXPIRED, FAILED, MAX_OUTCOME_USD, OK
from streams.messages.rejection import (
    RejectedMessage,
)
from streams.messages.returned import return_headers

BUSY_SECONDS, IDLE_SECONDS = 0.05, 0.5
"""Maximum wait for queries while others are in flight, and while none is."""
PROGRESS_LOG_SECONDS = 30.0
DRAIN_GRACE_SECONDS = 30.0

log = structlog.get_logger(__name__)

T = TypeVar("T")
Place = tuple[int, int]


@dataclass(frozen=True)
class FleetModel:
    """The LLM of a fleet.

    Parameters
    ----------
    name : str
        Name in the catalogue.
    served_as : str
        Name at the endpoint.
    pricing : callable
        Returns the current prices; None if the reservation counts as the cost.
    """

    name: str
    served_as: str
    pricing: Callable[[], Pricing | None]

    def cost(self, work: RoutedQuery, reply: EndpointReply) -> float:
        """Return the cost of all attempts in USD; the reservation if the cost is unknown."""
        answered = reply.body is not None
        if (answered and not reply.counted) or (work.bound is not None and reply.unsure):
            return work.reserved
        pricing = self.pricing()
        if pricing is None:
            return work.reserved if answered or reply.tokens != Tokens() else 0.0
        cost = pricing.cost(reply.tokens, reply.paid_requests)
        with_probe = pricing.cost(reply.tokens + reply.probe_tokens, reply.paid_requests)
        # plain requests must not take a query beyond its bound
        return with_probe if work.bound is None else max(cost, min(with_probe, work.reserved))


class Fleet:
    """One worker: polls queries, requests their answers concurrently, and commits finished answers.

    Parameters
    ----------
    settings : Settings
    llm : FleetModel
    client : EndpointClient
    concurrency : int
        Maximum queries in flight.
    drain_seconds : float
        Time for queries in flight when the worker stops or loses a partition.
    group : str, optional
        Consumer group; by default one per LLM.
    activity : FleetActivity, optional
        Health and metrics of the worker.
    returns : bool
        Return queries that the endpoint fails to answer to the router, instead of answering with the error
        or stopping. The client must have been created with the same value.
    grader : Grader, optional
        Reports the quality of answers, before they are committed with their outcomes.
    """

    def __init__(
        self,
        settings: Settings,
        llm: FleetModel,
        client: EndpointClient,
        concurrency: int = 16,
        drain_seconds: float = 30.0,
        group: str | None = None,
        activity: FleetActivity | None = None,
        returns: bool = False,
        grader: Grader | None = None,
    ) -> None:
        slug = Model(llm.name).slug
        self._settings, self._topics = settings, settings.topics
        self._llm, self._client = llm, client
        self._concurrency, self._drain_seconds = concurrency, drain_seconds
        self._activity = activity or FleetActivity(llm.name)
        self._topic = settings.topics.llm(slug)
        self._group = group or f"{settings.app_id}-fleet-{slug}"
        # unique to this process: group membership, not the name, decides who may commit
        self._name = f"fleet-{slug}-{secrets.token_hex(6)}"
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        self._stopping = False
        self._counts = {"answered": 0, "failed": 0, "returned": 0, "expired": 0, "usd": 0.0}
        self._returns, self._outage, self._grader = returns, EndpointOutage(), grader
        self._drains = False

    @property
    def drain_seconds(self) -> float:
        """Time for queries in flight after the worker is stopped."""
        return self._drain_seconds

    def stop(self) -> None:
        """Poll no more queries and finish those in flight; on a second call, leave them to other workers.

        Must be called in the event loop's thread.
        """
        if self._stopping:
            self._drain_seconds = 0.0
        self._stopping = True
        log.info("draining", in_flight=len(self._tasks), seconds=self._drain_seconds)

    def return_all(self) -> None:
        """Return all queries without a request, and stop when none waits; call it before `run`."""
        self._drains = True
        self._outage.close("the fleet was drained")

    async def run(self) -> None:
        """Run until stopped.

        Raises
        ------
        EndpointAccessError
            Every query would fail. Finished answers are committed; the other queries stay on the topic.
        KafkaException
            Access is denied, or the broker is unavailable for too long.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fleet-kafka")
        stream = self._stream = FleetStream(
            self._settings, self._topic, self._group, self._name, self._drain, self._drop
        )
        logged_at = time.monotonic()
        try:
            while not self._stopping and self._failure is None:
                await self._poll_and_commit(self._concurrency - len(self._tasks))
                if self._drains and self._stream.at_end:
                    self.stop()
                if time.monotonic() - logged_at > PROGRESS_LOG_SECONDS:
                    logged_at = time.monotonic()
                    log.info("fleet_progress", in_flight=len(self._tasks), **self._counts)
            await self._finish_in_flight()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await self._in_thread(stream.close)
            self._thread.shutdown()
        log.info("drained", **self._counts)
        if self._failure is not None:
            raise self._failure

    async def _poll_and_commit(self, limit: int) -> None:
        """Poll at most `limit` queries, and commit finished answers."""
        seconds = BUSY_SECONDS if self._tasks else IDLE_SECONDS
        for message in await self._in_thread(self._stream.poll, limit, seconds):
            place = int(message.partition() or 0), int(message.offset() or 0)
            self._start(place, message)
        self._activity.polled(self._stream.partitions)
        if self._stream.commit_due and await self._in_thread(self._stream.commit):
            self._activity.committed()
        self._activity.uncommitted(self._stream.uncommitted)

    async def _finish_in_flight(self) -> None:
        """Wait for queries in flight within the drain time, and commit their answers; heartbeats continue."""
        began = time.monotonic()
        while self._tasks or self._stream.waiting:
            if time.monotonic() - began > self._drain_seconds:
                log.warning("left_unanswered", queries=len(self._tasks))
                return
            await self._poll_and_commit(0)

    def _start(self, place: Place, message: Message) -> None:
        task = asyncio.create_task(self._answer(place, message))
        self._tasks[place] = task
        self._activity.started(place)
        task.add_done_callback(lambda done: self._task_ended(place, done))

    def _task_ended(self, place: Place, task: asyncio.Task[None]) -> None:
        if self._tasks.get(place) is task:
            del self._tasks[place]
            self._activity.ended(place)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(self._thread, function, *arguments)

    # ---- one query ---------------------------------------------------------------------------------------

    async def _answer(self, place: Place, message: Message) -> None:
        """Request the answer to one query; pass the answer or the error to the stream."""
        headers = headers_of(message)
        try:
            work = decode_routed_query(message.value(), headers)
        except RejectedMessage as refused:
            error_headers = dead_letter_headers(
                headers, refused, self._topic, *place, int(time.time() * 1000)
            )
            log.warning("query_refused", partition=place[0], offset=place[1], reason=str(refused))
            self._finish(place, Outgoing(self._topics.dlq, message.value(), message.key(), error_headers))
            return
        if work.has_expired(time.time()):
            self._answer_expired(place, message, work)
            return
        if self._returns and not self._outage.may_send():
            failed = {"code": "endpoint", "message": self._outage.reason}
            self._return_query(place, message, work, EndpointReply(error=failed), 0.0)
            return
        began = time.monotonic()
        try:
            request = chat_request(work, self._llm.served_as)
        except ValueError as error:
            reply = EndpointReply(error={"code": "invalid_request", "message": str(error)})
        else:
            reply = await self._client.complete(request, work.trace, pay_once=work.bound is not None)
        cost = self._llm.cost(work, reply)
        if self._returns and reply.body is None and (reply.returnable or reply.stop is not None):
            if reply.stop is not None:
                self._outage.failed(str(reply.stop))
            self._return_query(place, message, work, reply, cost)
            return
        if reply.body is not None:
            self._outage.answered()
        name, key, seconds = self._llm.name, work.id.encode(), round(time.monotonic() - began, 3)
        reply, value = answer_within(work, name, cost, reply, seconds)
        self._count(work, reply, cost, seconds=seconds)
        position = work.lane, work.lane_offset, work.attempt
        events_from = event_source(self._topics.prefix)
        headers = event_headers(headers, EventType.ANSWERED, events_from, position, time.time()) or []
        written = [Outgoing(self._topics.answers, value, key, headers)]
        status = FAILED if reply.body is None and reply.returnable else OK
        quality = None
        if self._grader is not None and reply.body is not None:
            quality = await self._grader.grade(work.fields, answer_fields(work, reply))
        if (spent := encode_spent(work, name, cost, status, quality)) is not None:
            written.append(Outgoing(self._topics.outcomes, spent, key, [], work.lane))
        self._finish(place, *written)
        if reply.stop is not None:
            raise reply.stop

    def _answer_expired(self, place: Place, message: Message, work: RoutedQuery) -> None:
        """Answer a query whose deadline has passed with an error, without a request and at no cost."""
        error = {"code": "expired", "message": "the deadline had passed before the query was sent to the LLM"}
        reply = EndpointReply(error=error)
        _, value = answer_within(work, self._llm.name, 0.0, reply, 0.0)
        self._count(work, reply, 0.0, "expired")
        spent = encode_spent(work, self._llm.name, 0.0, EXPIRED)
        self._finish(
            place,
            Outgoing(self._topics.answers, value, work.id.encode(), work.headers),
            Outgoing(self._topics.outcomes, spent, work.id.encode(), [], work.lane),
        )

    def _return_query(
        self, place: Place, message: Message, work: RoutedQuery, reply: EndpointReply, cost: float
    ) -> None:
        """Return a query to the lane that routed it, as it came, with the reason and the cost."""
        error = reply.error or {}
        reason = f"{error.get('code')}: {error.get('message')}"
        headers = [*work.headers, *return_headers(reason, min(cost, MAX_OUTCOME_USD), reply.attempts)]
        self._activity.ended_with("returned", reply.tokens, cost, attempts=reply.attempts)
        self._counts["usd"] += cost
        self._counts["returned"] += 1
        log.info("query_returned", query_id=work.id, attempt=work.attempt, reason=reason[:200])
        self._finish(
            place, Outgoing(self._topics.returned, message.value(), message.key(), headers, work.lane)
        )

    def _finish(self, place: Place, *messages: Outgoing) -> None:
        self._stream.finish(Finished(*place, messages))

    def _count(
        self,
        work: RoutedQuery,
        reply: EndpointReply,
        cost: float,
        result: str | None = None,
        seconds: float | None = None,
    ) -> None:
        result = result or ("answered" if reply.body is not None else "failed")
        self._activity.ended_with(result, reply.tokens, cost, seconds, reply.attempts)
        self._counts["usd"] += cost
        self._counts[result] += 1
        if reply.error is not None:
            error = {name: reply.error[name] for name in ("code", "message")}
            log.warning("query_failed", query_id=work.id, attempts=reply.attempts, **error)

    # ---- revoked and lost partitions; called in the thread of the Kafka client -------

    def _drain(self, partitions: set[int]) -> None:
        async def wait() -> None:
            if tasks := self._tasks_of(partitions):
                await asyncio.wait(tasks, timeout=self._drain_seconds)

        with time_limit("drain", self._drain_seconds + DRAIN_GRACE_SECONDS):
            asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _drop(self, partitions: set[int]) -> None:
        def cancel() -> None:
            for task in self._tasks_of(partitions):
                task.cancel()

        self._loop.call_soon_threadsafe(cancel)

    def _tasks_of(self, partitions: set[int]) -> list[asyncio.Task[None]]:
        return [task for (partition, _), task in self._tasks.items() if partition in partitions]


def answer_within(
    work: RoutedQuery, model: str, cost: float, reply: EndpointReply, seconds: float
) -> tuple[EndpointReply, bytes]:
    """Return the reply and its message, or an error and its message if the answer is too large."""
    value = encode_answer(work, model, cost, answer_fields(work, reply) | {"seconds": seconds})
    if len(value) <= MAX_ANSWER_BYTES:
        return reply, value
    message = f"the answer has {len(value)} bytes, at most {MAX_ANSWER_BYTES} are possible; request less"
    reply = replace(reply, body=None, error={"code": "answer_too_large", "message": message})
    return reply, encode_answer(work, model, cost, answer_fields(work, reply) | {"seconds": seconds})


def answer_fields(work: RoutedQuery, reply: EndpointReply) -> dict[str, Any]:
    """Return the fields of an answer: `answer`, `finish_reason`, `usage`, `error`; for a chat, `response`.

    An answer without text content (reasoning up to the limit, a content filter, a function call, audio) also
    has `response`.
    """
    body = reply.body or {"choices": [{}]}
    choice = body["choices"][0]
    content = (choice.get("message") or {}).get("content")
    tokens = reply.tokens + reply.probe_tokens
    counted = {"prompt_tokens": tokens.prompt, "completion_tokens": tokens.completion}
    fields: dict[str, Any] = {
        "answer": content,
        "finish_reason": choice.get("finish_reason"),
        "usage": counted if reply.body is None else body.get("usage"),
        "error": reply.error,
        "attempts": reply.attempts,
    }
    if reply.body is not None and (work.chat or not content):
        fields["response"] = reply.body
    if not work.chat and reply.error is not None:
        fields["error"] = {name: value for name, value in reply.error.items() if name != "body"}
    return fields
