"""A fleet's worker: takes queries while there is room, asks for all at once, commits what is answered."""

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

from producers.fleet_calls import Caller, Reply
from producers.fleet_messages import (
    MAX_ANSWER_BYTES,
    Pricing,
    Tokens,
    Work,
    chat_request,
    encode_answer,
    encode_spent,
    read_work,
)
from producers.fleet_stream import Finished, FleetStream, Outgoing
from routing.catalogue import Model
from streams.dead_letters import dead_letter_headers
from streams.headers import headers_of
from streams.messages import Refused
from streams.settings import Settings

BUSY_SECONDS, IDLE_SECONDS = 0.05, 0.5
"""How long it waits for queries while answers may come in, and while nothing is going on."""
TELL_SECONDS = 30.0

log = structlog.get_logger(__name__)

T = TypeVar("T")
Place = tuple[int, int]


@dataclass(frozen=True)
class Llm:
    """The LLM of a fleet.

    Parameters
    ----------
    name : str
        As in the catalogue.
    served_as : str
        Its name at the endpoint.
    pricing : callable
        Its prices as they are now; None: what the router reserved is taken for the cost.
    """

    name: str
    served_as: str
    pricing: Callable[[], Pricing | None]

    def cost(self, work: Work, reply: Reply) -> float:
        """USD that answering cost, all attempts together; what was reserved where nobody can tell."""
        whole = reply.body is not None
        if (whole and not reply.counted) or (work.bound is not None and reply.unsure):
            return work.reserved
        pricing = self.pricing()
        if pricing is None:
            return work.reserved if whole or reply.tokens != Tokens() else 0.0
        return pricing.cost(reply.tokens)


class Fleet:
    """One worker: takes queries while it has room, asks for all of them at once, commits what is answered.

    Parameters
    ----------
    settings : Settings
    llm : Llm
    caller : Caller
    concurrency : int
        Queries that are asked at the same time.
    drain_seconds : float
        How long queries in flight may go on when the worker is stopped or loses a partition.
    group : str, optional
        Consumer group; by default one for the LLM.
    """

    def __init__(
        self,
        settings: Settings,
        llm: Llm,
        caller: Caller,
        concurrency: int = 16,
        drain_seconds: float = 30.0,
        group: str | None = None,
    ) -> None:
        slug = Model(llm.name).slug
        self._settings, self._topics = settings, settings.topics
        self._llm, self._caller = llm, caller
        self._concurrency, self._drain_seconds = concurrency, drain_seconds
        self._topic = settings.topics.llm(slug)
        self._group = group or f"{settings.app_id}-fleet-{slug}"
        # a name of this process alone: membership of the group, not the name, decides who may commit
        self._name = f"fleet-{slug}-{secrets.token_hex(6)}"
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        self._stopping = False
        self._counts = {"answered": 0, "failed": 0, "usd": 0.0}

    def stop(self) -> None:
        """Take no more queries and finish those in flight; when called again, leave them to others.

        To be called in the loop's thread.
        """
        if self._stopping:
            self._drain_seconds = 0.0
        self._stopping = True
        log.info("draining", in_flight=len(self._tasks), seconds=self._drain_seconds)

    async def run(self) -> None:
        """Work until stopped.

        Raises
        ------
        EndpointRefusesUs
            Going on would fail every query; what is answered is committed, the others stay where they are.
        KafkaException
            The broker does not let us, or is away for too long.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fleet-kafka")
        stream = self._stream = FleetStream(
            self._settings, self._topic, self._group, self._name, self._drain, self._drop
        )
        told = time.monotonic()
        try:
            while not self._stopping and self._failure is None:
                await self._turn(self._concurrency - len(self._tasks))
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    log.info("fleet_progress", in_flight=len(self._tasks), **self._counts)
            await self._finish_up()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await self._in_thread(stream.close)
            self._thread.shutdown()
        log.info("drained", **self._counts)
        if self._failure is not None:
            raise self._failure

    async def _turn(self, room: int) -> None:
        """Take what there is room for, commit what is answered."""
        seconds = BUSY_SECONDS if self._tasks else IDLE_SECONDS
        for message in await self._in_thread(self._stream.take, room, seconds):
            place = int(message.partition() or 0), int(message.offset() or 0)
            self._start(place, message)
        if self._stream.waiting:
            await self._in_thread(self._stream.commit)

    async def _finish_up(self) -> None:
        """Give queries in flight their time, and commit their answers; heartbeats go on meanwhile."""
        began = time.monotonic()
        while self._tasks or self._stream.waiting:
            if time.monotonic() - began > self._drain_seconds:
                log.warning("left_unanswered", queries=len(self._tasks))
                return
            await self._turn(0)

    def _start(self, place: Place, message: Message) -> None:
        task = asyncio.create_task(self._answer(place, message))
        self._tasks[place] = task
        task.add_done_callback(lambda done: self._ended(place, done))

    def _ended(self, place: Place, task: asyncio.Task[None]) -> None:
        if self._tasks.get(place) is task:
            del self._tasks[place]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(self._thread, function, *arguments)

    # ---- one query ---------------------------------------------------------------------------------------

    async def _answer(self, place: Place, message: Message) -> None:
        """Ask for one query; its answer, or why there is none, is handed to the stream."""
        headers = headers_of(message)
        try:
            work = read_work(message.value(), headers)
        except Refused as refused:
            told = dead_letter_headers(headers, refused, self._topic, *place, int(time.time() * 1000))
            log.warning("query_refused", partition=place[0], offset=place[1], reason=str(refused))
            self._hand_over(place, Outgoing(self._topics.dlq, message.value(), message.key(), told))
            return
        began = time.monotonic()
        try:
            request = chat_request(work, self._llm.served_as)
        except ValueError as error:
            reply = Reply(error={"code": "invalid_request", "message": str(error)})
        else:
            reply = await self._caller.ask(request, work.trace, pay_once=work.bound is not None)
        cost = self._llm.cost(work, reply)
        name, key, seconds = self._llm.name, work.id.encode(), round(time.monotonic() - began, 3)
        reply, value = answer_within(work, name, cost, reply, seconds)
        self._count(work, reply, cost)
        written = [Outgoing(self._topics.answers, value, key, headers)]
        if (spent := encode_spent(work, name, cost)) is not None:
            written.append(Outgoing(self._topics.outcomes, spent, key, [], work.lane))
        self._hand_over(place, *written)

    def _hand_over(self, place: Place, *messages: Outgoing) -> None:
        self._stream.finish(Finished(*place, messages))

    def _count(self, work: Work, reply: Reply, cost: float) -> None:
        self._counts["usd"] += cost
        self._counts["answered" if reply.body is not None else "failed"] += 1
        if reply.error is not None:
            told = {name: reply.error[name] for name in ("code", "message")}
            log.warning("query_failed", query_id=work.id, attempts=reply.attempts, **told)

    # ---- partitions that go to others, called in the broker's thread -------------------------------------

    def _drain(self, partitions: set[int]) -> None:
        async def wait() -> None:
            if tasks := self._of(partitions):
                await asyncio.wait(tasks, timeout=self._drain_seconds)

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _drop(self, partitions: set[int]) -> None:
        def cancel() -> None:
            for task in self._of(partitions):
                task.cancel()

        self._loop.call_soon_threadsafe(cancel)

    def _of(self, partitions: set[int]) -> list[asyncio.Task[None]]:
        return [task for (partition, _), task in self._tasks.items() if partition in partitions]


def answer_within(work: Work, model: str, cost: float, reply: Reply, seconds: float) -> tuple[Reply, bytes]:
    """What is told of a reply, and as a message's value that the topic takes: an error, of one too large."""
    value = encode_answer(work, model, cost, told_answer(work, reply) | {"seconds": seconds})
    if len(value) <= MAX_ANSWER_BYTES:
        return reply, value
    message = f"the answer has {len(value)} bytes as a message, of {MAX_ANSWER_BYTES}; ask for less at once"
    reply = replace(reply, body=None, error={"code": "answer_too_large", "message": message})
    return reply, encode_answer(work, model, cost, told_answer(work, reply) | {"seconds": seconds})


def told_answer(work: Work, reply: Reply) -> dict[str, Any]:
    """What an answer says: `answer`, `finish_reason`, `usage`, `error`; `response` to a chat."""
    body = reply.body or {"choices": [{"message": {}}]}
    choice = body["choices"][0]
    counted = {"prompt_tokens": reply.tokens.prompt, "completion_tokens": reply.tokens.completion}
    fields: dict[str, Any] = {
        "answer": choice["message"].get("content"),
        "finish_reason": choice.get("finish_reason"),
        "usage": counted if reply.body is None else body.get("usage"),
        "error": reply.error,
        "attempts": reply.attempts,
    }
    if work.chat and reply.body is not None:
        fields["response"] = reply.body
    if not work.chat and reply.error is not None:
        fields["error"] = {name: told for name, told in reply.error.items() if name != "body"}
    return fields
