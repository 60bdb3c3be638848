"""Traffic while faults happen: queries in transactions, where they land, and fleets that answer.

Fleets are a thread that sends outcomes, good and bad ones, not `producers.fleet`: a process for each LLM
would leave little of two cores to the router, and how a fleet dies is tested by itself (tests/producers).
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import orjson
from confluent_kafka import KafkaException, Producer

from routing.money import to_usd
from streams.checks.landings import DEFERRED, SERVED, Landing, read_landing
from streams.checks.logs import Entry
from streams.kafka import producer_config
from streams.settings import Settings
from tests.end_to_end.routers import Observer, Router

BATCH = 50
"""Queries in one transaction of the load."""

ABORTED = 0.2
"""Share of the load's transactions that are aborted: nobody must route what was in them."""


class Tracker(Observer):
    """Which queries have not landed yet, and what fleets have to answer; forgets the rest."""

    def __init__(self, settings: Settings, names: Sequence[str], seed: int) -> None:
        self.sent: dict[tuple[int, int], float] = {}
        """Queries that have not landed, by partition and offset, oldest first: when they were committed."""
        self.early: set[tuple[int, int]] = set()
        """Landed before the load was told that they had been committed."""
        self.count = 0
        self.lock = threading.Lock()
        self.due: list[tuple[float, int, Landing]] = []
        self._random, self._number = random.Random(seed), itertools.count()
        super().__init__(settings, names)

    def committed(self, places: Sequence[tuple[int, int]], at: float) -> None:
        """Queries that are on the stream now."""
        with self.lock:
            for place in places:
                if place in self.early:
                    self.early.discard(place)
                else:
                    self.sent[place] = at

    def recovered(self, moment: float) -> bool:
        """All queries from before a moment have landed."""
        with self.lock:
            oldest = next(iter(self.sent.values()), None)
        return oldest is None or oldest > moment

    def _take(self, entry: Entry) -> None:
        landing = read_landing(entry, self.settings.topics, self.settings.partitions)
        if landing is None or landing.kind == DEFERRED:
            return
        place = landing.source or (landing.lane, landing.offset)
        with self.lock:
            self.count += 1
            if self.sent.pop(place, None) is None:
                self.early.add(place)
            if landing.kind == SERVED and self._random.random() < 0.9:  # the others are never answered
                slim = Landing(
                    Entry("", 0, 0, None, None), SERVED, landing.lane, landing.offset, landing.id,
                    landing.model, charge=landing.charge,
                )  # fmt: skip
                after = time.monotonic() + self._random.uniform(0.2, 3.0)
                heapq.heappush(self.due, (after, next(self._number), slim))

    def answers(self) -> list[Landing]:
        """What fleets answer now."""
        found = []
        with self.lock:
            while self.due and self.due[0][0] <= time.monotonic():
                found.append(heapq.heappop(self.due)[2])
        return found


class Traffic:
    """Two threads: one sends queries at a rate, one answers as fleets do. Both outlive dead brokers.

    Parameters
    ----------
    router : Router
    tracker : Tracker
    rate : float
        Queries a second that are committed.
    seed : int
    first : int
        Queries that are sent before `release`, and no more.
    """

    def __init__(self, router: Router, tracker: Tracker, rate: float, seed: int, first: int) -> None:
        self.router, self.tracker, self.rate = router, tracker, rate
        self._random = random.Random(seed)
        self._first, self._released = first, threading.Event()
        self._stopping = threading.Event()
        self.answered = 0
        self.failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True)
            for work in (self._load, self._answer)
        ]
        for thread in self._threads:
            thread.start()

    def release(self) -> None:
        """Send more than the first queries."""
        self._released.set()

    def stop(self) -> None:
        """Send nothing more; what is due is answered still."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        if self.failure is not None:
            raise self.failure

    def _guard(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:
            self.failure = error
            raise

    # ---- queries -----------------------------------------------------------------------------------------

    def _load(self) -> None:
        producer, row, sent = None, 0, 0
        next_at = time.monotonic()
        while not self._stopping.is_set():
            if producer is None:
                producer = self._transactional()
                continue
            if sent + BATCH > self._first and not self._released.wait(0.05):
                continue
            aborted = self._random.random() < ABORTED
            try:
                self._transaction(producer, row, aborted)
            except KafkaException:
                producer = None  # whether it was committed is not known; the topic says
            row += BATCH
            if not aborted:
                sent += BATCH
                next_at = max(next_at + BATCH / self.rate, time.monotonic() - 1)
                self._stopping.wait(max(0.0, next_at - time.monotonic()))

    def _transactional(self) -> Producer | None:
        config = producer_config(self.router.settings) | {
            "transactional.id": f"{self.router.name}-load", "transaction.timeout.ms": 5000, "linger.ms": 5,
        }  # fmt: skip
        producer = Producer(config)
        with contextlib.suppress(KafkaException):
            producer.init_transactions(10)
            return producer
        return None

    def _transaction(self, producer: Producer, row: int, aborted: bool) -> None:
        places: list[tuple[int, int]] = []

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                places.append((message.partition(), message.offset()))

        partitions = self.router.settings.partitions
        producer.begin_transaction()
        for number in range(row, row + BATCH):
            name = f"{'aborted' if aborted else 'q'}-{number}"
            identity, value = self.router.query(number, name)
            topic = self.router.topics.queries
            producer.produce(topic, value, identity, partition=number % partitions, on_delivery=delivered)
        producer.flush(10)
        if aborted:
            producer.abort_transaction(10)
            return
        producer.commit_transaction(10)
        self.tracker.committed(places, time.monotonic())

    # ---- outcomes ----------------------------------------------------------------------------------------

    def _answer(self) -> None:
        producer = Producer(producer_config(self.router.settings) | {"linger.ms": 5})
        while not (self._stopping.is_set() and not self.tracker.due):
            for landing in self.tracker.answers():
                for value in self._outcomes(landing):
                    producer.produce(self.router.topics.outcomes, value, partition=landing.lane)
                    self.answered += 1
            producer.poll(0.05)
        producer.flush(60)

    def _outcomes(self, landing: Landing) -> list[bytes]:
        """One outcome; now and then again, for another query, or at another cost."""
        fields = {
            "id": landing.id, "model": landing.model, "partition": landing.lane, "offset": landing.offset,
            "cost": float(to_usd(landing.charge)) * self._random.uniform(0.5, 1.5),
        }  # fmt: skip
        found, draw = [fields], self._random.random()
        if draw < 0.03:
            found.append(fields)
        elif draw < 0.05:
            found.append(fields | {"cost": 1.0})
        elif draw < 0.07:
            found.insert(0, fields | {"offset": landing.offset + 10**9})
        elif draw < 0.09:
            found.insert(0, fields | {"id": "somebody-else"})
        return [orjson.dumps(outcome) for outcome in found]
