"""Decide whether a failed request is the fault of the query or of the endpoint."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from producers.fleet.failures import EndpointAccessError, EndpointUnavailableError, RequestFailure
from producers.fleet.messages import Tokens

log = structlog.get_logger(__name__)

EVIDENCE_SECONDS = 2.0
"""Maximum wait for an answer to another query before a plain request is sent."""


@dataclass(frozen=True)
class ProbeResult:
    """Result of a search for the fault.

    Parameters
    ----------
    outage : bool
        The endpoint was unavailable and has recovered: the query may be retried.
    tokens : Tokens
        Tokens of the plain requests.
    """

    outage: bool = False
    tokens: Tokens = field(default_factory=Tokens)


@dataclass(frozen=True)
class Suspect:
    """A query whose requests failed.

    Parameters
    ----------
    failure : RequestFailure
        Failure of its last request.
    since, failed_at, deadline : float
        Times of the event loop: after `since`, answers to others show that the endpoint works; at `failed_at`
        its last request failed; until `deadline` the endpoint may recover.
    model : str
        The LLM's name at the endpoint.
    limit : int or None
        Maximum tokens of its answer.
    """

    failure: RequestFailure
    since: float
    failed_at: float
    deadline: float
    model: str
    limit: int | None


class EndpointProbe:
    """Decides who is at fault by answers to other queries and, without any, by a plain request.

    A query is at fault if a request that began after its failure is answered. Otherwise a plain request is
    sent. While that fails, too, the endpoint is at fault and the query must not fail.

    Parameters
    ----------
    send_plain_request : callable
        Sends the plain request, given the LLM's name and a token limit; returns its tokens, or raises
        `RequestFailure` or `EndpointAccessError`.
    permission_seconds : float
        Maximum wait for a withdrawn permission to come back.
    sleep : callable
    pause : callable
        Seconds to wait after the n-th failure.
    """

    def __init__(
        self,
        send_plain_request: Callable[[str, int | None], Awaitable[Tokens]],
        permission_seconds: float,
        sleep: Callable[[float], Awaitable[None]],
        pause: Callable[[int], float],
    ) -> None:
        self._send_plain_request, self._permission_seconds, self._sleep, self._pause = (
            send_plain_request,
            permission_seconds,
            sleep,
            pause,
        )
        self._answered = -math.inf
        self._recovered = -math.inf
        self._refused: tuple[float, EndpointAccessError] = -math.inf, EndpointAccessError()
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()

    @property
    def known(self) -> bool:
        """True if the LLM has answered before."""
        return self._answered > -math.inf

    def answered(self, began: float) -> None:
        """Record that a request that began at this time was answered."""
        self._answered = max(self._answered, began)
        self._notify()

    def answered_since(self, moment: float) -> bool:
        """Return whether a request that began after this time was answered."""
        return self._answered > moment

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a query as in flight for the length of a block."""
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._notify()

    async def judge(self, suspect: Suspect) -> ProbeResult:
        """Decide who is at fault.

        Raises
        ------
        EndpointAccessError
            The endpoint is at fault, and every query would fail.
        """
        if suspect.failure.passing:
            # other queries were answered during the attempts of this one
            if self._answered > suspect.since and self._recovered <= suspect.since:
                return ProbeResult()
        elif await self._others_are_answered(suspect.failed_at):
            return ProbeResult()
        async with self._lock:
            refused_at, refusal = self._refused
            if refused_at > suspect.failed_at:
                raise refusal
            try:
                return await self._probe(suspect)
            except EndpointAccessError as error:
                self._refused = asyncio.get_running_loop().time(), error
                raise

    async def _others_are_answered(self, since: float) -> bool:
        try:
            async with asyncio.timeout(EVIDENCE_SECONDS):
                while self._answered <= since and self._in_flight > 1:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self._answered > since

    async def _probe(self, suspect: Suspect) -> ProbeResult:
        loop, tokens, failures, paused = asyncio.get_running_loop(), Tokens(), 0, 0.0
        while True:
            began = loop.time()
            if self._recovered > suspect.failed_at:
                return ProbeResult(True, tokens)
            if self._answered > suspect.failed_at:
                break
            try:
                tokens += await self._send_plain_request(suspect.model, suspect.limit)
            except RequestFailure as failure:
                tokens += failure.tokens
                failures += 1
                pause = max(self._pause(failures), failure.pause or 0.0)
                later = max(loop.time(), suspect.failed_at + paused) + pause
                if later >= self._waits_until(suspect, failure):
                    raise _refusal(failure, failures) from None
                log.warning(
                    "endpoint_unavailable",
                    code=failure.code,
                    reason=failure.message,
                    pause_seconds=round(pause, 2),
                )
                await self._sleep(pause)
                paused += pause
            else:
                self.answered(began)
                break
        if failures:
            self._recovered = loop.time()
            log.info("endpoint_available")
        return ProbeResult(failures > 0, tokens)

    def _waits_until(self, suspect: Suspect, failure: RequestFailure) -> float:
        if failure.passing:
            return suspect.deadline
        # a withdrawn permission may come back; one that was never granted will not
        wait = self._permission_seconds if failure.shut_out and self.known else 0.0
        return min(suspect.deadline, suspect.failed_at + wait)

    def _notify(self) -> None:
        self._changed.set()
        self._changed.clear()


def _refusal(failure: RequestFailure, failures: int) -> EndpointAccessError:
    if failure.limited:
        return EndpointUnavailableError(rate_limit(failure))
    times = f"{failures} plain requests" if failures > 1 else "a plain request"
    if failure.passing:
        fix = "repair the endpoint, or correct its address"
    elif failure.shut_out:
        fix = "the endpoint denies access now; restore the permission, or choose another LLM"
    else:
        fix = "correct them"
    kind = EndpointUnavailableError if failure.passing else EndpointAccessError
    return kind(
        f"base_url, api_key, model: the endpoint answers neither queries nor {times} "
        f"({failure.message}); {fix}"
    )


def rate_limit(failure: RequestFailure) -> str:
    """Return the message for a rate limit that lasts too long."""
    wait = "" if failure.pause is None else f", and asks to retry in {failure.pause:.0f} s"
    return (
        f"rate limit: the endpoint accepts no query for longer than --query-seconds "
        f"({failure.message}{wait}); "
        "start the fleet later, raise the limit, or lower --concurrency"
    )
