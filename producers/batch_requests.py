"""Requests out of a file in OpenAI's Batch format, as queries; bad lines named with field and fix."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from producers.fleet_messages import OURS
from streams.messages import MAX_TOKENS, Refused, decode_query

URL = "/v1/chat/completions"
LONGEST_CUSTOM_ID = 400
SHOWN_PROBLEMS = 20
DIGEST_CHARACTERS = 20


class BadRequests(ValueError):  # noqa: N818 - what is wrong with a file, told to its owner
    """Lines of a batch file that cannot be sent; the message names line, field and fix of each."""


@dataclass(frozen=True)
class Request:
    """A line of a batch file.

    Parameters
    ----------
    line : int
        From 1.
    custom_id : str
    query_id : str
        The same for the same line of the same file, however often it is read.
    value : bytes
        The query as the router reads it.
    """

    line: int
    custom_id: str
    query_id: str
    value: bytes


@dataclass(frozen=True)
class Batch:
    """A batch file that was looked through.

    Parameters
    ----------
    path : Path
    name : str
        What its queries' ids begin with: a digest of the file, and of the run's name where there is one.
    count : int
        Requests in it.
    stamp : tuple of int
        Size and time of change, to see when somebody edits it meanwhile.
    """

    path: Path
    name: str
    count: int
    stamp: tuple[int, int]

    def query_id(self, custom_id: str) -> str:
        """The id of a request's query."""
        return f"{self.name}-{custom_id}"

    def requests(self, start: int = 0) -> Iterator[Request]:
        """The requests in their order, the first `start` left out.

        Raises
        ------
        ValueError
            The file has changed since it was looked through.
        """
        for line, raw in islice(_lines(self.path), start, None):
            if _stamp(self.path) != self.stamp:
                raise ValueError(
                    f"requests: {self.path} was changed while it was sent; put it back and run again"
                )
            yield _read(self.name, line, raw)


def look_through(path: Path, run: str = "") -> Batch:
    """Reads a whole batch file and checks every line.

    Parameters
    ----------
    path : Path
    run : str
        The same file is another batch under another name of the run.

    Raises
    ------
    BadRequests
        With every bad line, up to some.
    FileNotFoundError
    """
    digest = hashlib.sha256(f"{run}\n".encode())
    stamp = _stamp(path)
    problems: list[str] = []
    known: dict[str, int] = {}
    for line, raw in _lines(path):
        digest.update(raw)
        try:
            request = _read("batch-" + "0" * DIGEST_CHARACTERS, line, raw)
        except _Bad as bad:
            problems.append(f"line {line}: {bad}")
            continue
        first = known.setdefault(request.custom_id, line)
        if first != line:
            problems.append(
                f"line {line}: custom_id: {request.custom_id!r} is that of line {first} too; make it unique"
            )
    if problems:
        shown, more = problems[:SHOWN_PROBLEMS], len(problems) - SHOWN_PROBLEMS
        tail = [f"and {more} lines more"] if more > 0 else []
        raise BadRequests("\n".join([f"{path}: nothing was sent", *shown, *tail]))
    if not known:
        raise BadRequests(f"{path}: has no requests; write one JSON object a line")
    return Batch(path, f"batch-{digest.hexdigest()[:DIGEST_CHARACTERS]}", len(known), stamp)


class _Bad(Exception):  # noqa: N818 - of one line
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with open(path, "rb") as file:
        for line, raw in enumerate(file, 1):
            if raw.strip():
                yield line, raw.strip()


def _stamp(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_size, told.st_mtime_ns


def _read(name: str, line: int, raw: bytes) -> Request:
    """A line as a query; the same checks as the router's, so that none comes back as a dead letter."""
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _Bad("line", f"is not JSON ({error}); write one object a line") from None
    if not isinstance(fields, dict):
        raise _Bad("line", f"is a {type(fields).__name__}; write an object with custom_id, method, url, body")
    custom_id, body = fields.get("custom_id"), fields.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_CUSTOM_ID:
        raise _Bad("custom_id", f"{_shown(custom_id)} must be a text of 1 to {LONGEST_CUSTOM_ID} characters")
    if fields.get("method", "POST") != "POST":
        raise _Bad("method", f"{_shown(fields['method'])} must be 'POST'")
    if fields.get("url", URL) != URL:
        raise _Bad("url", f"{_shown(fields['url'])} must be '{URL}'; nothing else is routed")
    if not isinstance(body, dict):
        raise _Bad("body", f"{_shown(body)} must be an object with messages")
    query_id = f"{name}-{custom_id}"
    query = {"id": query_id, **_query(body), "metadata": {"batch": name, "custom_id": custom_id}}
    try:
        value = orjson.dumps(query)
    except TypeError as error:  # what can be read is deeper than what can be written
        raise _Bad("body", f"cannot be written as JSON ({error}); nest it less") from None
    try:
        decode_query(value, None)
    except Refused as refused:
        raise _Bad(f"body.{refused.field}", refused.reason) from None
    return Request(line, custom_id, query_id, value)


def _query(body: dict[str, Any]) -> dict[str, Any]:
    """Prompt, messages, max_tokens and parameters of a request's body."""
    if body.get("stream"):
        raise _Bad("body.stream", "answers are written when they are whole; leave it out")
    if body.get("n", 1) != 1:
        raise _Bad("body.n", f"{_shown(body['n'])} must be 1: a query has one answer")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _Bad("body.messages", f"{_shown(messages)} must be a list that is not empty")
    query: dict[str, Any] = {"prompt": _text(messages), "messages": messages}
    limits = []
    for name in ("max_tokens", "max_completion_tokens"):
        most = body.get(name)
        if most is not None:
            if type(most) is not int or not 0 < most <= MAX_TOKENS:
                raise _Bad(f"body.{name}", f"{_shown(most)} must be a whole number from 1 to {MAX_TOKENS}")
            limits.append(most)
    if limits:
        query["max_tokens"] = min(limits)
    parameters = {key: value for key, value in body.items() if key not in OURS and key != "max_tokens"}
    return query | ({"parameters": parameters} if parameters else {})


def _text(messages: list[Any]) -> str:
    """All text of the messages: what the query is routed by, and what bounds its cost."""
    texts: list[str] = []
    for number, message in enumerate(messages):
        where = f"body.messages[{number}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _Bad(where, "must be an object with role and content")
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [part["text"] for part in content
                      if isinstance(part, dict) and isinstance(part.get("text"), str)]  # fmt: skip
        elif content is not None:
            raise _Bad(f"{where}.content", f"{_shown(content)} must be a text or a list of parts")
    text = "\n\n".join(piece for piece in texts if piece)
    if not text:
        raise _Bad("body.messages", "have no text, and queries are routed by their text")
    return text


def _shown(value: object) -> str:
    if value is None:
        return "is missing;"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
