"""Read requests in OpenAI's Batch format as queries; report invalid lines with field and fix."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from producers.chat_api import RequestFieldError, query_fields, shown
from producers.input_files import InputFile
from streams.messages import exact_json
from streams.messages.query import decode_query
from streams.messages.rejection import (
    RejectedMessage,
)

URL = "/v1/chat/completions"
MAX_CUSTOM_ID_CHARACTERS = 400
MAX_PROBLEMS_SHOWN = 20
DIGEST_CHARACTERS = 20

ToFields = Callable[[Mapping[str, Any]], dict[str, Any]]


class BadRequests(ValueError):  # noqa: N818 - describes a file
    """Invalid lines of a batch file; the message names line, field and fix of each."""


@dataclass(frozen=True)
class Request:
    """A line of a batch file.

    Parameters
    ----------
    line : int
        Line number, from 1.
    custom_id : str
    query_id : str
        Reproducible: equal for equal lines of equal files.
    value : bytes
        The query's message.
    """

    line: int
    custom_id: str
    query_id: str
    value: bytes


@dataclass(frozen=True)
class Batch:
    """A valid batch file.

    Parameters
    ----------
    file : InputFile
    name : str
        Prefix of its queries' ids: a digest of the file and of the name of the run.
    count : int
        Number of requests.
    to_fields : callable
        Returns the fields of the query for a request's body.
    """

    file: InputFile
    name: str
    count: int
    to_fields: ToFields = query_fields

    def query_id(self, custom_id: str) -> str:
        """Return the id of a request's query."""
        return f"{self.name}-{custom_id}"

    def requests(self, start: int = 0) -> Iterator[Request]:
        """Yield the requests in order, without the first `start`.

        Raises
        ------
        ValueError
            The file has changed since it was validated.
        """
        for line, raw in islice(self.file.lines(), start, None):
            if self.file.changed:
                raise ValueError(
                    f"requests: {self.file.path} was changed while it was sent; restore it and run again"
                )
            yield _read(self.name, line, raw, self.to_fields)


def validate_file(path: Path, run: str = "", to_fields: ToFields = query_fields) -> Batch:
    """Read a whole batch file and validate every line.

    Parameters
    ----------
    path : Path
        `-` is standard input. Pipes and gzip files are supported.
    run : str
        The same file under another name is another batch.
    to_fields : callable
        Returns the fields of the query for a request's body, or raises `RequestFieldError`.

    Raises
    ------
    BadRequests
        Lists the invalid lines, up to `MAX_PROBLEMS_SHOWN`.
    FileNotFoundError
    """
    digest = hashlib.sha256(f"{run}\n".encode())
    file = InputFile(path)
    problems: list[str] = []
    line_of_id: dict[str, int] = {}
    for line, raw in file.lines():
        digest.update(raw)
        try:
            request = _read("batch-" + "0" * DIGEST_CHARACTERS, line, raw, to_fields)
        except RequestFieldError as invalid:
            problems.append(f"line {line}: {invalid}")
            continue
        first = line_of_id.setdefault(request.custom_id, line)
        if first != line:
            problems.append(
                f"line {line}: custom_id: {request.custom_id!r} is also that of line {first}; make it unique"
            )
    if problems:
        listed, more = problems[:MAX_PROBLEMS_SHOWN], len(problems) - MAX_PROBLEMS_SHOWN
        tail = [f"and {more} more lines"] if more > 0 else []
        raise BadRequests("\n".join([f"{path}: nothing was sent", *listed, *tail]))
    if not line_of_id:
        raise BadRequests(f"{path}: has no requests; write one JSON object a line")
    return Batch(file, f"batch-{digest.hexdigest()[:DIGEST_CHARACTERS]}", len(line_of_id), to_fields)


def _read(name: str, line: int, raw: bytes, to_fields: ToFields) -> Request:
    """Return a line as a request, validated as the router does, so that none becomes a dead letter."""
    try:
        fields = exact_json.decode(raw)
    except orjson.JSONDecodeError as error:
        raise RequestFieldError("line", f"is not JSON ({error}); write one object a line") from None
    if not isinstance(fields, dict):
        raise RequestFieldError(
            "line", f"is a {type(fields).__name__}; write an object with custom_id, method, url, body"
        )
    custom_id, body = fields.get("custom_id"), fields.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID_CHARACTERS:
        raise RequestFieldError(
            "custom_id", f"{shown(custom_id)} must be a string of 1 to {MAX_CUSTOM_ID_CHARACTERS} characters"
        )
    # null counts as missing, because OpenAI's library writes missing fields as null
    if fields.get("method") not in (None, "POST"):
        raise RequestFieldError("method", f"{shown(fields['method'])} must be 'POST'")
    if fields.get("url") not in (None, URL):
        raise RequestFieldError(
            "url", f"{shown(fields['url'])} must be '{URL}'; other URLs are not supported"
        )
    if not isinstance(body, dict):
        raise RequestFieldError("body", f"{shown(body)} must be an object with messages")
    query_id = f"{name}-{custom_id}"
    if body.get("stream"):
        raise RequestFieldError("body.stream", "streaming is not supported; leave it out")
    try:
        fields = to_fields(body)
    except RequestFieldError as error:
        raise RequestFieldError(f"body.{error.field}", error.reason) from None
    metadata = {**fields.get("metadata", {}), "batch": name, "custom_id": custom_id}
    try:
        value = exact_json.encode({"id": query_id, **fields, "metadata": metadata})
    except TypeError as error:  # decoding accepts deeper nesting than encoding
        raise RequestFieldError("body", f"cannot be encoded as JSON ({error}); reduce its nesting") from None
    try:
        decode_query(value, None)
    except RejectedMessage as refused:
        raise RequestFieldError(f"body.{refused.field}", refused.text) from None
    return Request(line, custom_id, query_id, value)
