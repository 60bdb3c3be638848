"""What comes of a batch: answers, unserved queries and dead letters, as lines of OpenAI's Batch output."""

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
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.batch_requests import Batch
from producers.batch_sending import Positions
from streams.dead_letters import split_dead_letter_headers
from streams.headers import headers_of
from streams.kafka import reader_config
from streams.settings import Settings

FINAL_ERRORS = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART}
POLL_SECONDS = 0.2


@dataclass
class Tally:
    """What was written so far.

    Parameters
    ----------
    done : set of str
        The custom ids that have a line.
    kinds : Counter
        Lines of this run: `answered`, `http_` and the status, or the code of their error.
    usd : float
        What the answers of this run cost.
    """

    done: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0


class AnswersFile:
    """The file of answers: lines are only added, and one that was cut off by a crash is taken away.

    Beside it, until the batch is done, lies a small file that says from where to read on; what the answers
    file has counts, that one only saves time.

    Parameters
    ----------
    path : Path
    batch : Batch

    Raises
    ------
    ValueError
        The file has lines of something else, is that of the requests, or another run writes it.
    """

    def __init__(self, path: Path, batch: Batch) -> None:
        self._path, self._batch = path, batch
        self._state = path.with_name(path.name + ".state")
        self._part = path.with_name(path.name + ".state.part")
        for ours in (path, self._state, self._part):
            # under whatever name: what is written there would be lost to the requests
            if ours.exists() and ours.samefile(batch.path):
                raise ValueError(f"--answers: {ours} is the file of the requests; name another file")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 - it is open as long as this is
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ValueError(f"--answers: another run writes {path}; wait for it, or stop it") from None
        self.done = self._read_back()

    def _read_back(self) -> set[str]:
        """The custom ids that are answered; a line of ours that was cut off is taken away."""
        self._file.seek(0)
        done, whole = set(), 0
        for number, raw in enumerate(self._file, 1):
            torn = not raw.endswith(b"\n")
            custom_id = None if torn else self._custom_id(raw)
            if custom_id is not None:
                done.add(custom_id)
                whole += len(raw)
            elif not (torn and self._is_cut_off(raw)):
                self._file.close()
                raise ValueError(
                    f"--answers: line {number} of {self._path} is of something else; name another file"
                )
        self._file.truncate(whole)
        return done

    def _custom_id(self, raw: bytes) -> str | None:
        """Whose line it is; None when it is of something else."""
        try:
            fields = orjson.loads(raw)
            ours = str(fields["id"]).startswith(self._batch.name + "-")
            return str(fields["custom_id"]) if ours else None
        except (ValueError, KeyError, TypeError):
            return None

    def _is_cut_off(self, raw: bytes) -> bool:
        """What is left of a line of ours; a file system may have made it longer with zeros."""
        begin, left = orjson.dumps({"id": f"{self._batch.name}-"})[:-2], raw.rstrip(b"\0")
        return left.startswith(begin) or begin.startswith(left)

    def positions(self) -> Positions:
        """From where to read on; nothing where that is not known."""
        try:
            fields = orjson.loads(self._state.read_bytes())
        except (OSError, ValueError):
            return {}
        # positions are of when the file had so much in it; of a file that has less they are not
        if fields.get("batch") != self._batch.name or fields.get("bytes", 0) > self._path.stat().st_size:
            return {}
        return {
            topic: {int(partition): at for partition, at in places.items()}
            for topic, places in fields["positions"].items()
        }

    def write(self, lines: list[dict[str, Any]], positions: Positions) -> None:
        """Add lines, safely on the disk before it is noted that they need not be read again."""
        self._file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done |= {line["custom_id"] for line in lines}
        places = {topic: {str(part): at for part, at in found.items()} for topic, found in positions.items()}
        state = {"batch": self._batch.name, "bytes": self._file.tell(), "positions": places}
        self._part.write_bytes(orjson.dumps(state))
        self._part.replace(self._state)

    def close(self, complete: bool) -> None:
        """Close; a batch that is done needs no positions."""
        self._file.close()
        if complete:
            self._state.unlink(missing_ok=True)


class Collector:
    """Reads what comes of a batch and writes it down, each request's once.

    Parameters
    ----------
    settings : Settings
    batch : Batch
    file : AnswersFile
    since : mapping
        Offsets before which there is nothing of this batch.
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
        """Every request has its line."""
        return len(self._file.done) >= self._batch.count

    def run(self, tick: Callable[[Tally], bool]) -> None:
        """Read until the batch is done, or `tick` says that it is enough by returning False.

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
                self._take(consumer.consume(1000, POLL_SECONDS))
                if not tick(self.tally):
                    return

    def _take(self, messages: list[Message]) -> None:
        lines: dict[str, dict[str, Any]] = {}
        for message in messages:
            if error := message.error():
                if error.code() in FINAL_ERRORS:
                    raise KafkaException(error)
                continue  # the end of a partition, or what passes
            self._positions[message.topic() or ""][int(message.partition() or 0)] = (
                message.offset() or 0
            ) + 1
            if (line := self._line(message)) is not None and line["custom_id"] not in self._file.done:
                # what came first counts
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
            _, told = split_dead_letter_headers(headers_of(message))
            return None, {"code": "refused", "message": told.get("exception.message", "it was refused")}
        fields = orjson.loads(message.value() or b"{}")
        if message.topic() == self._topics.unserved:
            return None, {"code": "unserved", "message": str(fields.get("reason"))}
        if (told := fields.get("error")) is not None:
            known = told if isinstance(told, dict) else {"code": "failed", "message": told}
            error = {"code": str(known.get("code")), "message": str(known.get("message"))}
            if type(status := known.get("status")) is not int:
                return None, error
            body = known.get("body")
            body = body if isinstance(body, dict) else {"error": error | {"type": None, "param": None}}
            return {"status_code": status, "request_id": query_id, "body": body}, None
        # when it was written, so that the same line comes of the same answer
        body = response_body(fields, message.timestamp()[1] // 1000)
        return {"status_code": 200, "request_id": query_id, "body": body}, None


def _kind(line: Mapping[str, Any]) -> str:
    if line["error"]:
        return str(line["error"]["code"])
    status = line["response"]["status_code"]
    return "answered" if status == 200 else f"http_{status}"


def response_body(answer: Mapping[str, Any], created: int) -> dict[str, Any]:
    """The response of the chat completions API that an answer has, or one made of its text.

    Parameters
    ----------
    answer : mapping
        The message's fields.
    created : int
        Seconds since 1970, where the answer does not say.
    """
    if isinstance(answer.get("response"), dict):
        return dict(answer["response"])
    message = {"role": "assistant", "content": answer.get("answer"), "refusal": None}
    reason = answer.get("finish_reason")
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        "id": answer.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": answer.get("model"),
        "choices": [choice],
        "usage": answer.get("usage"),
    }


def _cost(message: Message) -> float:
    cost = orjson.loads(message.value() or b"{}").get("cost")
    return float(cost) if isinstance(cost, int | float) else 0.0
