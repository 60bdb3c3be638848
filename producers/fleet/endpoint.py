"""Client of an OpenAI-compatible endpoint, with limited retries."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import structlog

from producers.fleet.endpoint_errors import read_error
from producers.fleet.failures import (
    EndpointAccessError,
    EndpointUnavailableError,
    RequestFailure,
    broken_connection,
    refusal,
)
from producers.fleet.messages import LIMITS, Tokens
from producers.fleet.parameters import EndpointParameters
from producers.fleet.probe import EndpointProbe, Suspect, rate_limit
from producers.fleet.response import Answer, decode_response, read_answer
from producers.fleet.self_test import PLAIN_TOKENS, plain_request, self_testing
from streams.messages import exact_json

log = structlog.get_logger(__name__)

MAX_OUTAGES = 3
"""Outages after which a query gets all its attempts again. Beyond these, the query may cause the outages."""

CONNECT_SECONDS = 10.0
"""Maximum wait for a connection. A request that was not sent is not paid for."""


@dataclass(frozen=True)
class Limits:
    """Limits of the attempts to get an answer.

    Parameters
    ----------
    attempts : int
        Maximum requests for one query, not counting those rejected by a rate limit.
    request_seconds, query_seconds : float
        Time limits of a request, and of a query with all its requests and pauses.
    first_pause, longest_pause : float
        Seconds between requests. The pause doubles up to the longest, or is what the endpoint demands.
    max_wait : float
        Seconds that a query waits for an endpoint that fails or limits the rate, from the first failure on;
        only for queries that are returned then.
    """

    attempts: int = 5
    request_seconds: float = 120.0
    query_seconds: float = 900.0
    first_pause: float = 0.5
    longest_pause: float = 30.0
    max_wait: float = 20.0


@dataclass
class EndpointReply:
    """Result of all requests for one query.

    Parameters
    ----------
    body : dict or None
        The LLM's complete response; None if all requests failed.
    tokens : Tokens
        Tokens counted by the LLM, over all requests.
    paid_requests : int
        Requests for which the LLM counted tokens.
    probe_tokens : Tokens
        Tokens of plain requests that tested the endpoint.
    counted : bool
        Whether the answer reported its usage, so that `tokens` are complete.
    unsure : bool
        Whether a request may have to be paid for although its tokens are unknown.
    error : dict or None
        `RequestFailure.to_dict` of the last failure if there is no answer.
    attempts : int
    returnable : bool
        Whether another LLM may answer the query, if there is no answer.
    stop : EndpointAccessError or None
        Reason why no other query would be answered; raised once this query is settled.
    """

    body: dict[str, Any] | None = None
    tokens: Tokens = field(default_factory=Tokens)
    paid_requests: int = 0
    probe_tokens: Tokens = field(default_factory=Tokens)
    counted: bool = False
    unsure: bool = False
    error: dict[str, Any] | None = None
    attempts: int = 0
    returnable: bool = False
    stop: EndpointAccessError | None = None

    def add_failure(self, failure: RequestFailure) -> None:
        """Add a failed request; one rejected by a rate limit is not an attempt."""
        self.tokens += failure.tokens
        self.paid_requests += failure.tokens != Tokens()
        self.unsure |= failure.unsure
        self.attempts += not failure.limited

    def add_answer(self, answer: Answer) -> None:
        """Add the answer."""
        self.error = None
        self.body = answer.body
        self.counted = answer.tokens is not None
        self.tokens += answer.tokens or Tokens()
        self.paid_requests += 1
        self.attempts += 1


class EndpointClient:
    """Sends the requests for one LLM, with limited retries; a rate limit delays all queries.

    Parameters
    ----------
    client : openai.AsyncOpenAI
        Created with `max_retries=0`: this class retries, and counts what the retries cost.
    limits : Limits
    sleep : callable
    draw : callable
        Returns a random number from 0 to 1, so that queries that failed together retry at different times.
    parameters : EndpointParameters, optional
        Parameters that the endpoint accepts; by default learned from its errors.
    returns : bool
        Failed queries are returned to the router: they wait for a failing endpoint `max_wait` seconds only,
        and `complete` reports its failure as `EndpointReply.stop` instead of raising it. It raises an error
        of the set-up, such as an invalid key, as long as the endpoint has answered no query.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        limits: Limits,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        parameters: EndpointParameters | None = None,
        returns: bool = False,
    ) -> None:
        self._returns = returns
        self._client, self._limits, self._sleep, self._draw = client, limits, sleep, draw
        self._parameters = parameters or EndpointParameters()
        self._probe = EndpointProbe(self._send_plain_request, limits.request_seconds, sleep, self._pause)
        self._not_before = 0.0

    async def complete(
        self, request: Mapping[str, Any], headers: Mapping[str, str] | None = None, pay_once: bool = False
    ) -> EndpointReply:
        """Send requests until there is an answer or a limit is reached.

        Parameters
        ----------
        request, headers : mapping
        pay_once : bool
            Do not retry a request that may have to be paid for: the reservation covers one answer only.

        Raises
        ------
        EndpointAccessError
            Every query would fail.
        """
        reply = EndpointReply()
        try:
            with self._probe.in_flight():
                for _ in range(MAX_OUTAGES + 1):
                    if not await self._send_with_retries(reply, request, headers, pay_once):
                        break
                    log.info("asked_again_after_outage", attempts=reply.attempts)
        except EndpointAccessError as error:
            # before the first answer, the set-up is at fault: other queries must not be returned one by one
            set_up = not self._probe.known and not isinstance(error, EndpointUnavailableError)
            if set_up or not self._returns:
                raise
            reply.stop = error
            reply.error = reply.error or {"code": "endpoint", "message": str(error)}
        return reply

    async def _send_with_retries(
        self,
        reply: EndpointReply,
        request: Mapping[str, Any],
        headers: Mapping[str, str] | None,
        pay_once: bool,
    ) -> bool:
        """Send requests with limited retries; return True if the query may be retried after an outage."""
        loop, pauses, attempts = asyncio.get_running_loop(), 0, 0
        first_failed = first_limited = math.inf
        started, paused = loop.time(), 0.0
        deadline = started + self._limits.query_seconds
        while True:
            await self._wait_for_turn(self._until(started, deadline))
            began = loop.time()
            try:
                answer = await self._attempt(request, headers)
            except RequestFailure as failure:
                now = loop.time()
                first_failed = min(first_failed, now)
                deadline = self._until(first_failed, deadline)
                reply.add_failure(failure)
                attempts += not failure.limited
                pauses += 1
                # even if the endpoint demands no pause, retries must not form a busy loop
                pause = max(self._pause(pauses), failure.pause or 0.0)
                later = max(now, started + paused) + pause
                if failure.limited:
                    self._not_before = max(self._not_before, now + pause)
                    first_limited = min(first_limited, now)
                may_retry = not (pay_once and failure.may_be_paid)
                if failure.retryable and may_retry and later < deadline and attempts < self._limits.attempts:
                    log.info(
                        "retry", code=failure.code, attempt=reply.attempts, pause_seconds=round(pause, 2)
                    )
                    await self._sleep(pause)
                    paused += pause
                    continue
                reply.error, reply.returnable = failure.to_dict(), failure.returnable
                if failure.limited:
                    self._check_rate_limit(failure, first_limited)
                # an endpoint that has answered before and counts tokens works; only this answer broke off
                elif not (failure.own or (self._probe.known and failure.tokens != Tokens())):
                    limit = min((request[name] for name in LIMITS if request.get(name)), default=None)
                    since = first_failed if may_retry else began
                    suspect = Suspect(failure, since, now, deadline, str(request["model"]), limit)
                    return await self._judge(suspect, reply, may_retry)
                return False
            reply.add_answer(answer)
            self._probe.answered(began)
            return False

    def _until(self, moment: float, deadline: float) -> float:
        """Return the time until which a query waits for an endpoint that fails since a moment."""
        return min(deadline, moment + self._limits.max_wait) if self._returns else deadline

    async def _judge(self, suspect: Suspect, reply: EndpointReply, may_retry: bool) -> bool:
        """Find the fault; return True if the endpoint was unavailable and the query may be retried."""
        try:
            verdict = await self._probe.judge(suspect)
        except EndpointAccessError as refused:
            if may_retry or not suspect.failure.passing or not self._probe.known:
                raise
            # the query may have been answered; another attempt would pay for it twice
            reply.stop = refused
            return False
        reply.probe_tokens += verdict.tokens
        return verdict.outage and may_retry

    def _check_rate_limit(self, failure: RequestFailure, since: float) -> None:
        """Raise EndpointAccessError if a rate limit outlasts a query's time, since all queries would fail."""
        if (failure.pause or 0.0) >= self._limits.query_seconds or not self._probe.answered_since(since):
            raise EndpointUnavailableError(rate_limit(failure))

    async def _attempt(self, request: Mapping[str, Any], headers: Mapping[str, str] | None) -> Answer:
        """Send one request; raise `RequestFailure` if it gives no complete answer."""
        try:
            return await self._request(self._client, request, headers)
        except (RequestFailure, EndpointAccessError):
            raise
        except Exception as error:
            # an error of this request alone must not stop the fleet; an error of all requests must
            log.error("odd_request", reason=str(error), exc_info=error)
            await self._self_test(str(request["model"]))
            reason = f"the request cannot be sent ({type(error).__name__}: {error})"
            raise RequestFailure("invalid_request", reason, retryable=False, unsure=True, own=True) from error

    async def _self_test(self, model: str) -> None:
        try:
            async with self_testing(self._client) as client:
                await self._send(client, self._parameters.apply(plain_request(model)), None)
        except Exception as error:
            # the error's repr may contain the key
            raise EndpointAccessError(
                f"api_key, base_url, model: no request can be sent ({type(error).__name__}: "
                f"{error}); correct them"
            ) from error

    async def _send_plain_request(self, model: str, limit: int | None) -> Tokens:
        """Send the plain request to the endpoint; return its tokens."""
        log.info("endpoint_probe", model=model)
        answer = await self._attempt(plain_request(model, limit or PLAIN_TOKENS), None)
        return answer.tokens or Tokens()

    async def _request(
        self, client: openai.AsyncOpenAI, request: Mapping[str, Any], headers: Mapping[str, str] | None
    ) -> Answer:
        """Send a request with the parameters that the endpoint accepts, learning them from its errors."""
        while True:
            body = self._parameters.apply(request)
            try:
                answer = await self._send(client, body, headers)
            except RequestFailure as failure:
                if failure.error is None or not self._parameters.learn_refusal(body, failure.error):
                    raise
                continue
            if answer.tokens is not None:
                self._parameters.check_limit(body, answer.tokens.completion)
            return answer

    async def _send(
        self, client: openai.AsyncOpenAI, body: Mapping[str, Any], headers: Mapping[str, str] | None
    ) -> Answer:
        known = self._probe.known
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                # encoded here, because the client would change the digits of numbers
                response = await client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=exact_json.encode(body),
                    options={
                        "headers": dict(headers or {}),
                        "timeout": openai.Timeout(None, connect=CONNECT_SECONDS),
                    },
                )
        except TimeoutError:
            reason = f"no answer within {self._limits.request_seconds:g} s"
            raise RequestFailure("timeout", reason, passing=True, unsure=True) from None
        except openai.APIStatusError as error:
            content = error.response.content
            endpoint_error = read_error(
                error.status_code, error.response.headers, _error_body(content), content
            )
            raise refusal(endpoint_error, known) from None
        except openai.APIConnectionError as error:
            raise broken_connection(error) from None
        return read_answer(response.content, response.headers, known)

    async def _wait_for_turn(self, deadline: float) -> None:
        """Wait for the end of a rate limit, plus a random time, so that queries do not all come at once."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before < deadline:
            await self._sleep((self._not_before - now) + self._draw())

    def _pause(self, number: int) -> float:
        longest = min(self._limits.longest_pause, self._limits.first_pause * 2 ** (number - 1))
        return longest * (0.5 + 0.5 * self._draw())


def _error_body(content: bytes) -> Any:
    """Return the JSON of an error; None if it is invalid or nested too deeply to encode again."""
    try:
        body = decode_response(content)
        exact_json.encode(body)
    except (ValueError, TypeError):
        return None
    return body
