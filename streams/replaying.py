"""Dead letters sent again to where they came from, each once: letter and mark are one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaError, KafkaException

from streams.kafka import reader_config, transactional_config
from streams.letters import Letter, Marks, encode_mark, read_marks
from streams.scanning import Scanner
from streams.settings import Settings
from streams.transactions import FencedProducer

log = structlog.get_logger(__name__)

BATCH_SECONDS, BATCH_MOST = 0.5, 100
"""A transaction has as many letters as the rate allows in this time, and no more than that."""


@dataclass
class Replayed:
    """What a replay did.

    Parameters
    ----------
    sent : int
    skipped : dict of str to int
        Letters that were not sent, by why: replayed before, or refused again after a replay.
    failed : list of (Letter, str)
        Letters that could not be sent, and why.
    """

    sent: int = 0
    skipped: dict[str, int] = field(default_factory=lambda: {"replayed": 0, "back": 0})
    failed: list[tuple[Letter, str]] = field(default_factory=list)


class Replayer:
    """Sends dead letters again. Whoever opens one later fences this one, so no two replay at the same time.

    Parameters
    ----------
    settings : Settings
    rate : float or None
        Letters a second; None: as fast as it goes.
    again : bool
        Send those, too, that were refused again after a replay.
    sleep : callable

    Raises
    ------
    ValueError
        From `run`: another replay has begun.
    KafkaException
        The broker is away; what was sent is marked, so that running again goes on.
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
        # a letter may have been within a compressed batch that was allowed only for being compressed
        self._config = transactional_config(settings, "dlq-replay") | {"compression.type": "zstd"}
        self._producer: FencedProducer | None = None
        self._marks = Marks()
        self._scanner = Scanner(reader_config(settings))

    def close(self) -> None:
        """Let go of the broker."""
        if self._producer is not None:
            self._producer.close()
        self._scanner.__exit__(None, None, None)

    def run(
        self,
        letters: Iterable[Letter],
        limit: int | None = None,
        tick: Callable[[Replayed], None] = lambda done: None,
    ) -> Replayed:
        """Replay letters in their order, `limit` at most."""
        done = Replayed()
        self._open()
        for batch in self._batches(letters, limit, done):
            began = time.monotonic()
            self._send(batch, done)
            tick(done)
            taken = len(batch) / self._rate if self._rate else 0.0
            if (left := began + taken - time.monotonic()) > 0:
                self._sleep(left)
        return done

    def _open(self) -> None:
        """Fence former replays, then read what they marked: nothing of theirs can be committed any more."""
        self._producer = FencedProducer(self._config)
        self._marks = read_marks(self._scanner, self._settings)

    def _batches(
        self, letters: Iterable[Letter], limit: int | None, done: Replayed
    ) -> Iterator[list[Letter]]:
        size = max(1, min(BATCH_MOST, int(self._rate * BATCH_SECONDS))) if self._rate else BATCH_MOST
        batch: list[Letter] = []
        taken = 0
        for letter in letters:
            state = self._marks.state(letter)
            if state == "replayed" or (state == "back" and not self._again):
                done.skipped[state] += 1
                continue
            if limit is not None and taken >= limit:
                break
            if problem := self._problem(letter):
                done.failed.append((letter, problem))
                continue
            batch.append(letter)
            taken += 1
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _problem(self, letter: Letter) -> str | None:
        origin = letter.origin
        if origin is None:
            return "it does not say where it came from"
        if origin[1] >= self._scanner.partitions(origin[0]):
            return f"{origin[0]}[{origin[1]}], where it came from, is not there"
        return None

    def _send(self, batch: list[Letter], done: Replayed) -> None:
        """Send letters with their marks; those that the broker does not take are found one by one."""
        try:
            self._transact(batch)
            done.sent += len(batch)
            return
        except KafkaException as error:
            reason = error.args[0]
            log.warning("replay_failed", letters=len(batch), reason=reason.str())
            if reason.code() == KafkaError._FENCED:
                raise ValueError("dlq replay: another replay has begun, and goes on from here") from None
        assert self._producer is not None
        self._producer.close()
        self._open()
        # whether the transaction went through need not be known: the marks say
        left = [letter for letter in batch if letter.mark not in self._marks.letters]
        done.sent += len(batch) - len(left)
        if len(batch) == 1 and left:
            done.failed.append((batch[0], reason.str()))
        elif left:
            for letter in left:
                self._send([letter], done)

    def _transact(self, batch: list[Letter]) -> None:
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
