"""The files of a batch: fields of its queries, lines of errors, and its answers in two files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import orjson

from producers.chat_api import RequestFieldError
from producers.gateway.api_errors import ApiError
from producers.gateway.chat import read_chat_request


class BatchFields:
    """Fields of the query for each request of a batch.

    Parameters
    ----------
    metadata : mapping
        Of the batch's owner.
    ends_at : float
        Deadline of every query, in seconds since 1970.
    models : collection of str
        LLMs of the catalogue; empty if names are not to be checked.
    """

    def __init__(self, metadata: Mapping[str, str], ends_at: float, models: Collection[str]) -> None:
        self._metadata, self._deadline = metadata, int(ends_at * 1000)
        self.models = models

    def __call__(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields for a request's body.

        Raises
        ------
        RequestFieldError
            The request is invalid.
        """
        try:
            chat = read_chat_request(body, self.models, self._metadata)
        except ApiError as error:
            field = error.param or "body"
            raise RequestFieldError(field, error.message.removeprefix(f"{field}: ")) from None
        return {**chat.fields, "deadline": self._deadline}


def error_lines(text: str) -> list[dict[str, Any]]:
    """Return the problems of an invalid file as the errors of a batch.

    Examples
    --------
    >>> error_lines("requests.jsonl: nothing was sent\\nline 2: body: is missing")[0]["line"]
    2
    """
    _, *problems = text.splitlines()
    errors = []
    for problem in problems or [text]:
        start, _, detail = problem.partition(": ")
        number = start.removeprefix("line ")
        line = int(number) if start.startswith("line ") and number.isdigit() else None
        message = detail if line is not None else problem
        errors.append({"code": "invalid_request", "line": line, "message": message, "param": None})
    return errors


def split_answers(answers: Path, good: Path, bad: Path) -> tuple[int, int]:
    """Write answered requests to one file and the others to another; return the numbers of lines.

    Parameters
    ----------
    answers : Path
        Lines of OpenAI's Batch output.
    good, bad : Path
    """
    counts = [0, 0]
    with open(answers, "rb") as lines, open(good, "wb") as output, open(bad, "wb") as errors:
        for line in lines:
            fields = orjson.loads(line)
            failed = fields["error"] is not None or fields["response"]["status_code"] != 200
            counts[failed] += 1
            (errors if failed else output).write(line)
    return counts[0], counts[1]
