"""Traffic during faults: queries in transactions, their outputs, and outcomes and returns of fleets.

One thread sends valid and invalid outcomes instead of `producers.fleet`, because a process for each LLM would
take the CPU from the router. tests/producers tests faults of fleets.
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

from routing.budgets.money import to_usd
from streams.audit.outputs import DEFERRED, SERVED, OutputRecord, read_output
from streams.audit.topic_records import TopicRecord
from streams.config.settings import Settings
from streams.kafka.clients import producer_config
from streams.messages.returned import return_headers
from tests.chaos.budgets import TEAMS
from tests.end_to_end.router_under_test import Observer, Router

TRANSACTION_QUERIES = 50
"""Queries in one transaction of the load."""

ABORTED_SHARE = 0.2
"""Share of the load's transactions that are aborted; their queries must not be routed."""


RETURNED_SHARE = 0.1
"""Share of the routed queries that fleets return."""

KEYED_SHARE = 0.2
"""Share of the queries whose team is the partition's own, so that its grants belong to one lane."""

EXPIRED_SHARE, SHORT_SHARE, SHORT_SECONDS = 0.01, 0.02, 2.0
"""Share of the queries whose deadline has passed, and of those whose deadline is this near."""


class Tracker(Observer):
    """Tracks queries without an output and outputs without an outcome; drops all others."""

    def __init__(self, settings: Settings, names: Sequence[str], seed: int) -> None:
        self.sent: dict[tuple[int, int], float] = {}
        """Commit times of queries without an output, by partition and offset, oldest first."""
        self.early: set[tuple[int, int]] = set()
        """Queries whose output was seen before their commit was confirmed."""
        self.dead: set[str] = set()
        """LLMs whose server does not answer: all their queries are returned."""
        self.count = 0
        self.lock = threading.Lock()
        self.pending: list[tuple[float, int, OutputRecord]] = []
        self._random, self._number = random.Random(seed), itertools.count()
        super().__init__(settings, names)

    def committed(self, places: Sequence[tuple[int, int]], at: float) -> None:
        """Record queries whose transaction is committed."""
        with self.lock:
            for place in places:
                if place in self.early:
                    self.early.discard(place)
                else:
                    self.sent[place] = at

    def recovered(self, moment: float) -> bool:
        """Return whether all queries from before a moment have outputs."""
        with self.lock:
            oldest = next(iter(self.sent.values()), None)
        return oldest is None or oldest > moment

    def _record(self, entry: TopicRecord) -> None:
        landing = read_output(entry, self.settings.topics, self.settings.partitions)
        if landing is None or landing.kind == DEFERRED:
            return
        place = landing.source or (landing.lane, landing.offset)
        with self.lock:
            self.count += 1
            if self.sent.pop(place, None) is None and landing.attempt <= 1:
                self.early.add(place)
            if landing.kind == SERVED and self._random.random() < 0.9:  # the others never get an outcome
                returned = landing.model in self.dead or self._random.random() < RETURNED_SHARE
                slim = OutputRecord(
                    entry if returned else TopicRecord("", 0, 0, None, None),
                    SERVED,
                    landing.lane,
                    landing.offset,
                    landing.id,
                    landing.model,
                    charge=landing.charge,
                    attempt=landing.attempt,
                )
                after = time.monotonic() + self._random.uniform(0.2, 3.0)
                heapq.heappush(self.pending, (after, next(self._number), slim))

    def answers(self) -> list[OutputRecord]:
        """Remove and return the outputs whose outcome is due."""
        due = []
        with self.lock:
            while self.pending and self.pending[0][0] <= time.monotonic():
                due.append(heapq.heappop(self.pending)[2])
        return due


class Traffic:
    """Two threads: one sends queries at a rate, one sends outcomes. Both survive killed brokers.

    Parameters
    ----------
    router : Router
    tracker : Tracker
    rate : float
        Committed queries per second.
    seed : int
    first : int
        Maximum number of queries sent before `release`.
    """

    def __init__(self, router: Router, tracker: Tracker, rate: float, seed: int, first: int) -> None:
        self.router, self.tracker, self.rate = router, tracker, rate
        self._random = random.Random(seed)
        self._first, self._released = first, threading.Event()
        self._stopping = threading.Event()
        self.answered = self.returned = 0
        self.failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True)
            for work in (self._load, self._answer)
        ]
        for thread in self._threads:
            thread.start()

    def release(self) -> None:
        """Send queries beyond the first ones."""
        self._released.set()

    def stop(self) -> None:
        """Stop sending queries, and send the remaining outcomes."""
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
            if sent + TRANSACTION_QUERIES > self._first and not self._released.wait(0.05):
                continue
            aborted = self._random.random() < ABORTED_SHARE
            try:
                self._transaction(producer, row, aborted)
            except KafkaException:
                producer = None  # the outcome of the commit is unknown; the topic shows it
            row += TRANSACTION_QUERIES
            if not aborted:
                sent += TRANSACTION_QUERIES
                next_at = max(next_at + TRANSACTION_QUERIES / self.rate, time.monotonic() - 1)
                self._stopping.wait(max(0.0, next_at - time.monotonic()))

    def _transactional(self) -> Producer | None:
        config = producer_config(self.router.settings) | {
            "transactional.id": f"{self.router.name}-load",
            "transaction.timeout.ms": 5000,
            "linger.ms": 5,
        }
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
        for number in range(row, row + TRANSACTION_QUERIES):
            name = f"{'aborted' if aborted else 'q'}-{number}"
            identity, value = self.router.query(number, name)
            partition = number % partitions
            value = value[:-1] + self._terms(partition)
            draw = self._random.random()
            if draw < EXPIRED_SHARE:
                value = value[:-1] + b',"deadline":1}'
            elif draw < EXPIRED_SHARE + SHORT_SHARE:
                value = value[:-1] + b',"deadline":%d}' % int(1000 * (time.time() + SHORT_SECONDS))
            topic = self.router.topics.queries
            producer.produce(topic, value, identity, partition=partition, on_delivery=delivered)
        producer.flush(10)
        if aborted:
            producer.abort_transaction(10)
            return
        producer.commit_transaction(10)
        self.tracker.committed(places, time.monotonic())

    def _terms(self, partition: int) -> bytes:
        """Return the end of a query's JSON: its weight, and its team if it has one."""
        keyed = self._random.random() < KEYED_SHARE
        team = f"lane-{partition}" if keyed else self._random.choice(TEAMS)
        metadata = b',"metadata":{"team":"%s"}' % team.encode() if team else b""
        return metadata + b',"weight":%d}' % self._random.randint(1, 3)

    # ---- outcomes ----------------------------------------------------------------------------------------

    def _answer(self) -> None:
        producer = Producer(producer_config(self.router.settings) | {"linger.ms": 5})
        while not (self._stopping.is_set() and not self.tracker.pending):
            for landing in self.tracker.answers():
                if landing.entry.value is not None:
                    self._give_back(producer, landing)
                    continue
                for value in self._outcomes(landing):
                    producer.produce(self.router.topics.outcomes, value, partition=landing.lane)
                    self.answered += 1
            producer.poll(0.05)
        producer.flush(60)

    def _give_back(self, producer: Producer, landing: OutputRecord) -> None:
        """Return a query, sometimes twice, at two costs, or with an outcome beside."""
        entry, topics, draw = landing.entry, self.router.topics, self._random.random()
        costs = [float(to_usd(landing.charge)) * self._random.choice([0.0, 0.5, 1.2])]
        if draw < 0.05:
            costs.append(costs[0])
        elif draw < 0.1:
            costs.append(1.0)
        elif draw < 0.15:
            value = self._outcomes(landing)[0]
            producer.produce(topics.outcomes, value, partition=landing.lane)
            self.answered += 1
        for cost in costs:
            headers = [*entry.headers, *return_headers("timeout", cost, 3)]
            producer.produce(topics.returned, entry.value, entry.key, landing.lane, headers=headers)
            self.returned += 1

    def _outcomes(self, landing: OutputRecord) -> list[bytes]:
        """Return an outcome, sometimes with a duplicate, a contradiction or an unknown query."""
        fields = {
            "id": landing.id,
            "model": landing.model,
            "partition": landing.lane,
            "offset": landing.offset,
            "attempt": landing.attempt,
            "cost": float(to_usd(landing.charge)) * self._random.uniform(0.5, 1.5),
        }
        if self._random.random() < 0.5:
            fields["tokens"] = self._random.randint(100, 3000)
        outcomes, draw = [fields], self._random.random()
        if draw < 0.03:
            outcomes.append(fields)
        elif draw < 0.05:
            outcomes.append(fields | {"cost": 1.0})
        elif draw < 0.07:
            outcomes.insert(0, fields | {"offset": landing.offset + 10**9})
        elif draw < 0.09:
            outcomes.insert(0, fields | {"id": "another"})
        return [orjson.dumps(outcome) for outcome in outcomes]
