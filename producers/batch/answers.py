"""Collect answers, unserved queries and dead letters of a batch as lines of OpenAI's Batch output."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from producers.batch.requests import Batch
from producers.batch.sender import Positions
from producers.chat_api import response_body
from streams.config.settings import Settings
from streams.kafka.bounded_clients import Consumer
from streams.kafka.clients import reader_config
from streams.messages import exact_json
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.headers import headers_of
from streams.messages.unserved import reason_text

FINAL_ERRORS = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART}
POLL_SECONDS = 0.2


@dataclass
class Tally:
    """Counts of the lines written so far.

    Parameters
    ----------
    done : set of str
        Custom ids that have a line.
    kinds : Counter
        Lines of this run by `answered`, `http_` and the status, or the code of the error.
    usd : float
        Cost of the answers of this run.
    """

    done: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0


class AnswersFile:
    """The file of answers: lines are appended, and an incomplete last line after a crash is removed.

    Until the batch is done, a state file beside it has the offsets to continue from. The file of answers is
    authoritative; the state file only saves time.

    Parameters
    ----------
    path : Path
    batch : Batch

    Raises
    ------
    ValueError
        The file has foreign lines, is the file of requests, or is being written by another run.
    """

    def __init__(self, path: Path, batch: Batch) -> None:
        self._path, self._batch = path, batch
        self._state = path.with_name(path.name + ".state")
        self._part = path.with_name(path.name + ".state.part")
        for output in (path, self._state, self._part):
            # also if it is a link or another spelling of the path
            if output.exists() and batch.file.is_file(output):
                raise ValueError(f"--answers: {output} is the file of the requests; name another file")
        if str(path) == "-" or (path.exists() and not path.is_file()):
            raise ValueError(f"--answers: {path} is not a regular file; name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 - closed by `close`
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ValueError(f"--answers: another run is writing {path}; wait for it or stop it") from None
        self.done = self._read_back()

    def _read_back(self) -> set[str]:
        """Return the custom ids with a line; remove an incomplete last line of this batch."""
        self._file.seek(0)
        done, valid_bytes = set(), 0
        for number, raw in enumerate(self._file, 1):
            incomplete = not raw.endswith(b"\n")
            custom_id = None if incomplete else self._custom_id(raw)
            if custom_id is not None:
                done.add(custom_id)
                valid_bytes += len(raw)
            elif not (incomplete and self._is_cut_off(raw)):
                self._file.close()
                raise ValueError(
                    f"--answers: line {number} of {self._path} is not of this batch; name another file"
                )
        self._file.truncate(valid_bytes)
        return done

    def _custom_id(self, raw: bytes) -> str | None:
        """Return the custom id of a line; None if the line does not belong to this batch."""
        try:
            fields = orjson.loads(raw)
            own = str(fields["id"]).startswith(self._batch.name + "-")
            return str(fields["custom_id"]) if own else None
        except (ValueError, KeyError, TypeError):
            return None

    def _is_cut_off(self, raw: bytes) -> bool:
        """Return whether this is the beginning of a line of this batch, perhaps padded with zeros."""
        head, rest = orjson.dumps({"id": f"{self._batch.name}-"})[:-2], raw.rstrip(b"\0")
        return rest.startswith(head) or head.startswith(rest)

    def positions(self) -> Positions:
        """Return the offsets to continue from; empty if they are unknown."""
        try:
            fields = orjson.loads(self._state.read_bytes())
        except (OSError, ValueError):
            return {}
        # the offsets belong to a file of at least this size; a smaller file has lost lines
        if fields.get("batch") != self._batch.name or fields.get("bytes", 0) > self._path.stat().st_size:
            return {}
        return {
            topic: {int(partition): at for partition, at in places.items()}
            for topic, places in fields["positions"].items()
        }

    def write(self, lines: list[dict[str, Any]], positions: Positions) -> None:
        """Append lines and sync them to disk, then save the offsets to continue from."""
        self._file.write(b"".join(exact_json.encode(line) + b"\n" for line in lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done |= {line["custom_id"] for line in lines}
        places = {
            topic: {str(part): at for part, at in offsets.items()} for topic, offsets in positions.items()
        }
        state = {"batch": self._batch.name, "bytes": self._file.tell(), "positions": places}
        self._part.write_bytes(orjson.dumps(state))
        self._part.replace(self._state)

    def close(self, complete: bool) -> None:
        """Close the file; delete the state file of a complete batch."""
        self._file.close()
        if complete:
            self._state.unlink(missing_ok=True)


class AnswerCollector:
    """Reads the results of a batch and writes one line per request.

    Parameters
    ----------
    settings : Settings
    batch : Batch
    file : AnswersFile
    since : mapping
        First offsets that can have results of this batch.
    """

    def __init__(self, settings: Settings, batch: Batch, file: AnswersFile, since: Positions) -> None:
        self._topics, self._batch, self._file = settings.topics, batch, file
        self._config = reader_config(settings, f"{settings.app_id}-batch")
        self._prefix = f"{batch.name}-"
        self._positions = {topic: dict(places) for topic, places in since.items()}
        for topic, places in file.positions().items():
            self._positions.setdefault(topic, {}).update(places)
        self.tally = Tally(done=file.done)

    @property
    def complete(self) -> bool:
        """True if every request has its line."""
        return len(self._file.done) >= self._batch.count

    def run(self, tick: Callable[[Tally], bool]) -> None:
        """Read until the batch is done or `tick` returns False.

        Raises
        ------
        KafkaException
            The topics cannot be read.
        """
        with closing(Consumer(self._config)) as consumer:
            consumer.assign(
                [
                    TopicPartition(topic, partition, at)
                    for topic, places in self._positions.items()
                    for partition, at in places.items()
                ]
            )
            while not self.complete:
                self._record(consumer.consume(1000, POLL_SECONDS))
                if not tick(self.tally):
                    return

    def _record(self, messages: list[Message]) -> None:
        lines: dict[str, dict[str, Any]] = {}
        for message in messages:
            if error := message.error():
                if error.code() in FINAL_ERRORS:
                    raise KafkaException(error)
                continue  # the end of a partition, or a temporary error
            self._positions[message.topic() or ""][int(message.partition() or 0)] = (
                message.offset() or 0
            ) + 1
            if (line := self._line(message)) is not None and line["custom_id"] not in self._file.done:
                # the first result counts
                if line["custom_id"] not in lines:
                    self.tally.kinds[_kind(line)] += 1
                    self.tally.usd += _cost(message) if message.topic() == self._topics.answers else 0.0
                lines.setdefault(line["custom_id"], line)
        if lines:
            self._file.write(list(lines.values()), self._positions)

    def _line(self, message: Message) -> dict[str, Any] | None:
        """The line of the output that a message makes; None when it is of others."""
        key = message.key()
        # the router and the fleets keep a query's key, which is its id
        if key is None or not key.startswith(self._prefix.encode()):
            return None
        query_id = key.decode()
        custom_id = query_id.removeprefix(self._prefix)
        response, error = self._result(message, query_id)
        return {"id": query_id, "custom_id": custom_id, "response": response, "error": error}

    def _result(self, message: Message, query_id: str) -> tuple[dict[str, Any] | None, dict[str, str] | None]:
        if message.topic() == self._topics.dlq:
            _, errors = split_dead_letter_headers(headers_of(message))
            return None, {"code": "refused", "message": errors.get("exception.message", "it was rejected")}
        fields = exact_json.decode(message.value() or b"{}")
        if message.topic() == self._topics.unserved:
            return None, {"code": "unserved", "message": reason_text(fields.get("reason"))}
        if (failure := fields.get("error")) is not None:
            failure_fields = failure if isinstance(failure, dict) else {"code": "failed", "message": failure}
            error = {"code": str(failure_fields.get("code")), "message": str(failure_fields.get("message"))}
            if type(status := failure_fields.get("status")) is not int:
                return None, error
            body = failure_fields.get("body")
            body = body if isinstance(body, dict) else {"error": error | {"type": None, "param": None}}
            return {"status_code": status, "request_id": query_id, "body": body}, None
        # the message's timestamp, so that an answer always gives the same line
        body = response_body(fields, message.timestamp()[1] // 1000)
        return {"status_code": 200, "request_id": query_id, "body": body}, None


def _kind(line: Mapping[str, Any]) -> str:
    if line["error"]:
        return str(line["error"]["code"])
    status = line["response"]["status_code"]
    return "answered" if status == 200 else f"http_{status}"


def _cost(message: Message) -> float:
    cost = orjson.loads(message.value() or b"{}").get("cost")
    return float(cost) if isinstance(cost, int | float) else 0.0
