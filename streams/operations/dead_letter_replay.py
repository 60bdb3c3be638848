"""Replay of dead letters to their original topics, each exactly once.

A letter and the marker of its replay are produced in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaError, KafkaException

from streams.config.settings import Settings
from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.scanner import Scanner
from streams.kafka.transactions import FencedProducer
from streams.operations.dead_letters import DeadLetter, ReplayMarkers, encode_mark, read_marks

log = structlog.get_logger(__name__)

BATCH_SECONDS = 0.5
"""A transaction has at most as many letters as the rate allows in this time."""

MAX_BATCH_LETTERS = 100


@dataclass
class ReplayResult:
    """Result of a replay.

    Parameters
    ----------
    sent : int
    skipped : dict of str to int
        Number of letters that were not sent, by state: replayed before, or rejected again after a replay.
    failed : list of (DeadLetter, str)
        Letters that could not be sent, with the reason.
    """

    sent: int = 0
    skipped: dict[str, int] = field(default_factory=lambda: {"replayed": 0, "back": 0})
    failed: list[tuple[DeadLetter, str]] = field(default_factory=list)


class DeadLetterReplayer:
    """Sends dead letters again. A replayer fences earlier ones, so that only one runs at a time.

    Parameters
    ----------
    settings : Settings
    rate : float or None
        Letters per second; None for no limit.
    again : bool
        Include letters that were rejected again after a replay.
    sleep : callable

    Raises
    ------
    ValueError
        From `run`: another replay has started.
    KafkaException
        The broker is unreachable. Sent letters are marked, so that the next run continues after them.
    """

    def __init__(
        self,
        settings: Settings,
        rate: float | None,
        again: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"rate: {rate} must be more than 0 letters a second")
        self._settings, self._rate, self._again, self._sleep = settings, rate, again, sleep
        # a letter may be larger than the limit without the compression that its producer used
        self._config = transactional_config(settings, "dlq-replay") | {"compression.type": "zstd"}
        self._producer: FencedProducer | None = None
        self._marks = ReplayMarkers()
        self._scanner = Scanner(reader_config(settings))

    def close(self) -> None:
        """Close the clients."""
        if self._producer is not None:
            self._producer.close()
        self._scanner.__exit__(None, None, None)

    def run(
        self,
        letters: Iterable[DeadLetter],
        limit: int | None = None,
        tick: Callable[[ReplayResult], None] = lambda done: None,
    ) -> ReplayResult:
        """Replay letters in their order, at most `limit`."""
        done = ReplayResult()
        self._open()
        for batch in self._batches(letters, limit, done):
            began = time.monotonic()
            self._send(batch, done)
            tick(done)
            seconds = len(batch) / self._rate if self._rate else 0.0
            if (remaining := began + seconds - time.monotonic()) > 0:
                self._sleep(remaining)
        return done

    def _open(self) -> None:
        """Fence earlier replays, then read their markers, to which they can no longer add any."""
        self._producer = FencedProducer(self._config)
        self._marks = read_marks(self._scanner, self._settings)

    def _batches(
        self, letters: Iterable[DeadLetter], limit: int | None, done: ReplayResult
    ) -> Iterator[list[DeadLetter]]:
        size = (
            max(1, min(MAX_BATCH_LETTERS, int(self._rate * BATCH_SECONDS)))
            if self._rate
            else MAX_BATCH_LETTERS
        )
        batch: list[DeadLetter] = []
        count = 0
        for letter in letters:
            state = self._marks.state(letter)
            if state == "replayed" or (state == "back" and not self._again):
                done.skipped[state] += 1
                continue
            if limit is not None and count >= limit:
                break
            if problem := self._problem(letter):
                done.failed.append((letter, problem))
                continue
            batch.append(letter)
            count += 1
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _problem(self, letter: DeadLetter) -> str | None:
        origin = letter.origin
        if origin is None:
            return "its original topic is unknown"
        if origin[1] >= self._scanner.partitions(origin[0]):
            return f"{origin[0]}[{origin[1]}], its original partition, does not exist"
        return None

    def _send(self, batch: list[DeadLetter], done: ReplayResult) -> None:
        """Send letters with their markers; after an error, send them one by one to find the rejected ones."""
        try:
            self._transact(batch)
            done.sent += len(batch)
            return
        except KafkaException as error:
            reason = error.args[0]
            log.warning("replay_failed", letters=len(batch), reason=reason.str())
            if reason.code() == KafkaError._FENCED:
                raise ValueError("dlq replay: another replay has begun, and continues from here") from None
        assert self._producer is not None
        self._producer.close()
        self._open()
        # the markers show whether the transaction was committed
        unsent = [letter for letter in batch if letter.mark not in self._marks.letters]
        done.sent += len(batch) - len(unsent)
        if len(batch) == 1 and unsent:
            done.failed.append((batch[0], reason.str()))
        elif unsent:
            for letter in unsent:
                self._send([letter], done)

    def _transact(self, batch: list[DeadLetter]) -> None:
        assert self._producer is not None
        now = time.time()
        self._producer.begin()
        for letter in batch:
            assert letter.origin is not None
            topic, partition = letter.origin
            self._producer.produce(topic, letter.value, letter.key, letter.headers, partition)
            mark = encode_mark(letter, now)
            self._producer.produce(self._settings.topics.replayed, mark, letter.mark, partition=0)
        self._producer.commit()
