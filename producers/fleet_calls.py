"""Asking an OpenAI-compatible endpoint until there is a whole answer, or clearly will be none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import openai
import orjson
import structlog

from producers.fleet_messages import Tokens

log = structlog.get_logger(__name__)

RETRIED = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may succeed."""

NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"})


class EndpointRefusesUs(Exception):  # noqa: N818 - a state of the world: someone has to mend the set-up
    """No query would be answered: the key is wrong, the account is empty, or there is no such LLM."""


@dataclass
class Failure(Exception):  # noqa: N818 - data of one request
    """A request without a whole answer.

    Parameters
    ----------
    code, message : str
    again : bool
        The same request may succeed later.
    pause : float or None
        Seconds that the endpoint asks to wait.
    limited : bool
        It was refused for coming too fast, which says nothing about the query.
    tokens : Tokens
        Counted by the LLM all the same.
    """

    code: str
    message: str
    again: bool = True
    pause: float | None = None
    limited: bool = False
    tokens: Tokens = field(default_factory=Tokens)


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
        Seconds between requests: doubled from the first to the longest, where the endpoint names none.
    pay_once : bool
        A query whose tokens were counted once is not asked for again, so that it cannot cost more than one
        answer: with `reserve=bound` no more than that is reserved.
    """

    attempts: int = 5
    request_seconds: float = 120.0
    query_seconds: float = 900.0
    first_pause: float = 0.5
    longest_pause: float = 30.0
    pay_once: bool = False


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
    error : dict or None
        `code` and `message` of the last failure, when there is no answer.
    attempts : int
    """

    body: dict[str, Any] | None = None
    tokens: Tokens = field(default_factory=Tokens)
    counted: bool = False
    error: dict[str, str] | None = None
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
        self._answered = False

    async def ask(self, request: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Reply:
        """Ask until there is an answer or the limits are reached.

        Raises
        ------
        EndpointRefusesUs
            Going on would fail every query.
        """
        loop, reply, pauses = asyncio.get_running_loop(), Reply(), 0
        deadline = loop.time() + self._limits.query_seconds
        while True:
            await self._wait_for_turn(deadline)
            try:
                reply.body = await self._attempt(request, headers)
            except Failure as failure:
                reply.tokens += failure.tokens
                reply.attempts += not failure.limited
                pauses += 1
                pause = self._pause(pauses) if failure.pause is None else failure.pause
                if failure.limited:
                    self._not_before = max(self._not_before, loop.time() + pause)
                again = failure.again and not (self._limits.pay_once and failure.tokens != Tokens())
                late = loop.time() + pause >= deadline
                if not again or late or reply.attempts >= self._limits.attempts:
                    reply.error = {"code": failure.code, "message": failure.message}
                    return reply
                log.info("retry", code=failure.code, attempt=reply.attempts, pause_seconds=round(pause, 2))
                await self._sleep(pause)
            else:
                tokens = _tokens(reply.body)
                reply.counted = tokens is not None
                reply.tokens += tokens or Tokens()
                reply.attempts += 1
                self._answered = True
                return reply

    async def _attempt(self, request: Mapping[str, Any], headers: Mapping[str, str] | None) -> dict[str, Any]:
        """One request; raises `Failure` when no whole answer comes of it."""
        given = dict(request)
        known = {name: given.pop(name) for name in ("model", "messages")}
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                raw = await self._client.chat.completions.with_raw_response.create(
                    **known, extra_body=given or None, extra_headers=dict(headers or {})
                )
            body = orjson.loads(raw.content)
        except TimeoutError:
            raise Failure("timeout", f"no answer within {self._limits.request_seconds:g} s") from None
        except orjson.JSONDecodeError as error:
            raise Failure("half_answer", f"the response is not JSON ({error})") from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.OpenAIError as error:
            raise Failure("connection", str(error.__cause__ or error)) from None
        if problem := _unfinished(body):
            tokens = _tokens(body) if isinstance(body, dict) else None
            raise Failure("half_answer", problem, tokens=tokens or Tokens())
        return dict(body)

    async def _wait_for_turn(self, deadline: float) -> None:
        """Wait while the endpoint takes nobody's requests; a little longer each, lest all come at once."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before < deadline:
            await self._sleep((self._not_before - now) + self._draw())

    def _pause(self, number: int) -> float:
        longest = min(self._limits.longest_pause, self._limits.first_pause * 2 ** (number - 1))
        return longest * (0.5 + 0.5 * self._draw())

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        """What a status other than 200 means."""
        status, told = error.status_code, error.message
        if status == 401:
            return EndpointRefusesUs(f"api_key: the endpoint does not take it ({told}); set another")
        if status == 402 or error.code in NO_CREDIT:
            return EndpointRefusesUs(f"api_key: the account has no credit ({told}); top it up")
        if status == 404 and not self._answered:
            return EndpointRefusesUs(f"base_url, model: there is no such LLM ({told}); correct them")
        again = status >= 500 or status in RETRIED
        pause = retry_after(error.response.headers) if again else None
        return Failure(error.code or f"http_{status}", error.message, again, pause, status == 429)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait, or None; both forms of RFC 9110, 10.2.3, and milliseconds.

    Examples
    --------
    >>> retry_after({"retry-after": "7"}), retry_after({"retry-after-ms": "250"}), retry_after({})
    (7.0, 0.25, None)
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    # a date without a zone is one in UTC
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


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
    return None
