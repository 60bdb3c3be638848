"""Asking an OpenAI-compatible endpoint until there is a whole answer, or clearly will be none."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import openai
import orjson
import structlog

from producers.fleet_failures import EndpointRefusesUs, Failure, broken_connection, refusal
from producers.fleet_messages import Tokens
from producers.fleet_rehearsal import plain_request, rehearsing

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
"""Longest wait for a connection: a request that could not be sent is known not to be paid for."""


@dataclass(frozen=True)
class Limits:
    """How long an answer is tried for.

    Parameters
    ----------
    attempts : int
        Requests for one query; those that were refused for coming too fast are not counted.
    request_seconds, query_seconds : float
        Longest time for one request, and for a query with all its requests and pauses.
    first_pause, longest_pause : float
        Seconds between requests: doubled from the first to the longest, or more where the endpoint says so.
    """

    attempts: int = 5
    request_seconds: float = 120.0
    query_seconds: float = 900.0
    first_pause: float = 0.5
    longest_pause: float = 30.0


@dataclass
class Reply:
    """What came of asking for one query.

    Parameters
    ----------
    body : dict or None
        The LLM's whole response; None when all requests failed.
    tokens : Tokens
        Counted by the LLM, over all requests.
    counted : bool
        The answer came with a usage, so that `tokens` are what it cost.
    unsure : bool
        A request may have to be paid for that nobody counted.
    error : dict or None
        `Failure.told` of the last failure, when there is no answer.
    attempts : int
    """

    body: dict[str, Any] | None = None
    tokens: Tokens = field(default_factory=Tokens)
    counted: bool = False
    unsure: bool = False
    error: dict[str, Any] | None = None
    attempts: int = 0


class Caller:
    """Asks one LLM, with bounded retries; rate limits that the endpoint names hold for all queries.

    Parameters
    ----------
    client : openai.AsyncOpenAI
        With `max_retries=0`: the retries are made here, where they are counted and paid for.
    limits : Limits
    sleep : callable
    draw : callable
        A random number from 0 to 1, so that queries that failed together do not come back together.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        limits: Limits,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._client, self._limits, self._sleep, self._draw = client, limits, sleep, draw
        self._not_before = 0.0
        # when the newest of the requests began that were answered
        self._let_in = -math.inf

    async def ask(
        self, request: Mapping[str, Any], headers: Mapping[str, str] | None = None, pay_once: bool = False
    ) -> Reply:
        """Ask until there is an answer or the limits are reached.

        Parameters
        ----------
        request, headers : mapping
        pay_once : bool
            Never ask again where a request may have to be paid for: no more than one answer is reserved.

        Raises
        ------
        EndpointRefusesUs
            Going on would fail every query.
        """
        loop, reply, pauses, shut_out = asyncio.get_running_loop(), Reply(), 0, math.inf
        deadline = loop.time() + self._limits.query_seconds
        while True:
            await self._wait_for_turn(deadline)
            began = loop.time()
            try:
                reply.body = await self._attempt(request, headers)
            except Failure as failure:
                reply.tokens += failure.tokens
                reply.unsure |= failure.unsure
                reply.attempts += not failure.limited
                pauses += 1
                # however soon the endpoint lets us come back, queries must not come back at once and for ever
                pause = max(self._pause(pauses), failure.pause or 0.0)
                later = loop.time() + pause
                if failure.limited:
                    self._not_before = max(self._not_before, later)
                if failure.shut_out:
                    shut_out = min(shut_out, loop.time())
                    again = self._waits_to_be_let_in(failure, shut_out, later, deadline)
                else:
                    again = failure.again and not (pay_once and failure.may_be_paid)
                    again = again and later < deadline and reply.attempts < self._limits.attempts
                if not again:
                    reply.error = failure.told
                    return reply
                log.info("retry", code=failure.code, attempt=reply.attempts, pause_seconds=round(pause, 2))
                await self._sleep(pause)
            else:
                tokens = _tokens(reply.body)
                reply.counted = tokens is not None
                reply.tokens += tokens or Tokens()
                reply.attempts += 1
                self._let_in = max(self._let_in, began)
                return reply

    def _waits_to_be_let_in(self, failure: Failure, since: float, later: float, deadline: float) -> bool:
        """Whether to try again what was refused since then; no when others get in, so that it is the query.

        Raises
        ------
        EndpointRefusesUs
            Nobody gets in, for as long as an answer takes at most.
        """
        if self._let_in > since:
            return False
        if later >= min(deadline, since + self._limits.request_seconds):
            raise EndpointRefusesUs(
                f"api_key, model: the endpoint lets nobody in any more ({failure.message}); mend the "
                "permission, or name another LLM"
            )
        log.warning("shut_out", code=failure.code, reason=failure.message)
        return True

    async def _attempt(self, request: Mapping[str, Any], headers: Mapping[str, str] | None) -> dict[str, Any]:
        """One request; raises `Failure` when no whole answer comes of it, whatever the reason."""
        try:
            return await self._request(self._client, request, headers)
        except (Failure, EndpointRefusesUs):
            raise
        except Exception as error:
            # what only this request breaks must not stop the others; what breaks all of them must stop us
            log.error("odd_request", reason=str(error), exc_info=error)
            await self._rehearse(str(request["model"]))
            reason = f"it cannot be asked ({type(error).__name__}: {error})"
            raise Failure("invalid_request", reason, again=False, unsure=True) from error

    async def _rehearse(self, model: str) -> None:
        try:
            async with rehearsing(self._client) as client:
                await self._request(client, plain_request(model), None)
        except Exception as error:
            # not its repr, which may hold the key
            raise EndpointRefusesUs(
                f"api_key, base_url, model: not even a plain request can be made ({type(error).__name__}: "
                f"{error}); correct them"
            ) from error

    async def _request(
        self, client: openai.AsyncOpenAI, request: Mapping[str, Any], headers: Mapping[str, str] | None
    ) -> dict[str, Any]:
        given = dict(request)
        known = {name: given.pop(name) for name in ("model", "messages")}
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                raw = await client.chat.completions.with_raw_response.create(
                    **known,
                    extra_body=given or None,
                    extra_headers=dict(headers or {}),
                    timeout=openai.Timeout(None, connect=CONNECT_SECONDS),
                )
            body = orjson.loads(raw.content)
        except TimeoutError:
            reason = f"no answer within {self._limits.request_seconds:g} s"
            raise Failure("timeout", reason, unsure=True) from None
        except orjson.JSONDecodeError as error:
            raise Failure("half_answer", f"the response is not JSON ({error})", unsure=True) from None
        except openai.APIStatusError as error:
            raise refusal(error, known=self._let_in > -math.inf) from None
        except openai.APIConnectionError as error:
            raise broken_connection(error) from None
        if problem := _unfinished(body):
            tokens = _tokens(body) if isinstance(body, dict) else None
            raise Failure("half_answer", problem, tokens=tokens or Tokens(), unsure=tokens is None)
        return dict(body)

    async def _wait_for_turn(self, deadline: float) -> None:
        """Wait while the endpoint takes nobody's requests; a little longer each, lest all come at once."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before < deadline:
            await self._sleep((self._not_before - now) + self._draw())

    def _pause(self, number: int) -> float:
        longest = min(self._limits.longest_pause, self._limits.first_pause * 2 ** (number - 1))
        return longest * (0.5 + 0.5 * self._draw())


def _tokens(body: Mapping[str, Any]) -> Tokens | None:
    """What the response says it used; None when it does not say."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not all(type(count) is int and count >= 0 for count in counts):
        return None
    return Tokens(*counts)  # type: ignore[arg-type]


def _unfinished(body: Any) -> str | None:
    """Why a response is no whole answer."""
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        return "the response has no choices[0].message"
    if not isinstance(first.get("finish_reason"), str):
        return "the response has no finish_reason: the answer was cut off"
    if not any(message.get(name) is not None for name in ("content", "tool_calls", "refusal")):
        return "the message of the response has no content"
    try:
        orjson.dumps(body)
    except TypeError as error:  # what can be read is deeper than what can be written
        return f"the response is nested too deeply ({error})"
    return None
