"""Graders: a command or an HTTP endpoint that reports the quality of an answer."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import structlog

from streams.messages import exact_json

log = structlog.get_logger(__name__)


class Grader(Protocol):
    """Reports the quality of answers."""

    async def grade(self, query: dict[str, Any], answer: dict[str, Any]) -> float | None:
        """Return the quality from 0 to 1; None if the grader gave none.

        Parameters
        ----------
        query : dict
            The routed query's message.
        answer : dict
            The fields of the answer's message.
        """
        ...


def make_grader(text: str, seconds: float) -> Grader:
    """Return the grader of the argument `--grader`: a URL, or a command of a shell-like syntax.

    Parameters
    ----------
    text : str
    seconds : float
        Time limit of one grade.

    Raises
    ------
    ValueError
        The command is empty or has an open quote.
    """
    if text.startswith(("http://", "https://")):
        return UrlGrader(text, seconds)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"--grader: {text!r:.80} is not a command ({error})") from None
    if not words:
        raise ValueError("--grader: is empty; give a command or a URL")
    return CommandGrader(tuple(words), seconds)


@dataclass(frozen=True)
class CommandGrader:
    """Runs a command for each answer: one JSON object on its input, a number on its output.

    Parameters
    ----------
    words : tuple of str
        Program and arguments; no shell runs them.
    seconds : float
        Time limit, after which the process is killed.
    """

    words: tuple[str, ...]
    seconds: float

    async def grade(self, query: dict[str, Any], answer: dict[str, Any]) -> float | None:
        """See `Grader`."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(*self.words, stdin=pipe, stdout=pipe)
        except OSError as error:
            return _ungraded(str(error))
        try:
            async with asyncio.timeout(self.seconds):
                output, _ = await process.communicate(_request(query, answer))
        except TimeoutError:
            return _ungraded(f"no grade within {self.seconds:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            return _ungraded(f"exit status {process.returncode}")
        return _quality(output)


@dataclass(frozen=True)
class UrlGrader:
    """Posts each answer as JSON; the response is a number, or an object with `quality`.

    Parameters
    ----------
    url : str
    seconds : float
        Time limit.
    """

    url: str
    seconds: float

    async def grade(self, query: dict[str, Any], answer: dict[str, Any]) -> float | None:
        """See `Grader`."""
        headers = {"content-type": "application/json"}
        try:
            async with httpx2.AsyncClient(timeout=self.seconds) as client:
                response = await client.post(self.url, content=_request(query, answer), headers=headers)
                response.raise_for_status()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return _ungraded(repr(error))
        return _quality(response.content)


def _request(query: dict[str, Any], answer: dict[str, Any]) -> bytes:
    return exact_json.encode({"query": query, "answer": answer})


def _quality(output: bytes) -> float | None:
    """Return the number that a grader printed; None, with a warning, for anything but 0 to 1."""
    try:
        value = exact_json.decode(output)
    except ValueError:
        return _ungraded(f"{output[:80]!r} is not a number")
    number: Any = value.get("quality") if isinstance(value, dict) else value
    try:
        quality = float(number)
    except (TypeError, ValueError):
        return _ungraded(f"{number!r:.80} is not a number")
    if isinstance(number, bool) or not 0 <= quality <= 1:
        return _ungraded(f"{number!r:.80} is not from 0 to 1")
    return quality


def _ungraded(reason: str) -> float | None:
    log.warning("answer_ungraded", reason=reason)
    return None
