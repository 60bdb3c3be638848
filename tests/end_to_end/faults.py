"""Faults injected into a worker: lost batches, lanes that raise, death at a chosen moment."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def die() -> None:
    """Kill this process with SIGKILL, without any cleanup."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_commit(armed: list[Any], moment: str) -> None:
    """Make commits of armed producers kill the process: before, flushed but not committed, or after."""
    from streams.kafka.rounds import LaneBatch, Rounds
    from streams.kafka.transactions import END_SECONDS, FencedProducer

    in_round: list[Any] = []
    run = Rounds._run

    def noting(rounds: Rounds, batches: list[LaneBatch], *arguments: Any) -> None:
        in_round[:] = [batch.lane for batch in batches]
        run(rounds, batches, *arguments)

    Rounds._run = noting  # type: ignore[method-assign]

    def commit(producer: FencedProducer, next_offset: int | None = None) -> None:
        now = producer in armed or any(lane in armed for lane in in_round)
        if now and moment == "before":
            die()
        producer._producer.flush(END_SECONDS)
        if now and moment == "flushed":
            die()
        producer._producer.commit_transaction(END_SECONDS)
        if now:
            die()
        producer._end_transaction()

    FencedProducer.commit = commit  # type: ignore[method-assign]


@dataclass(frozen=True)
class LoseBatches:
    """A share of the batches is lost between fetch and lane."""

    share: float
    seed: int = 0

    def __call__(self) -> None:
        from streams.lanes.faust_app import RouterApp

        draw = random.Random(self.seed)
        RouterApp.drops_fetch = lambda app, tp: draw.random() < self.share  # type: ignore[method-assign]


@dataclass(frozen=True)
class RaiseInLane:
    """A lane raises an error that is not a Kafka error, at the n-th batch with queries."""

    batch: int

    def __call__(self) -> None:
        from streams.router.router import RouterProcessor

        process, count = RouterProcessor.process, iter(range(1, 1 << 60))

        def faulty(processor: RouterProcessor, records: list[Any]) -> Any:
            if records and next(count) == self.batch:
                raise RuntimeError("injected: this lane raises")
            return process(processor, records)

        RouterProcessor.process = faulty  # type: ignore[method-assign]


@dataclass(frozen=True)
class RaiseInReader:
    """A thread that reads a topic raises as soon as the worker routes.

    Parameters
    ----------
    reader : {"outcomes", "plans"}
    """

    reader: str

    def __call__(self) -> None:
        from streams.ledger.inbox_reader import InboxReader
        from streams.planner.plan_reader import PlanReader

        def broken(*arguments: Any) -> None:
            raise RuntimeError(f"injected: {self.reader} cannot be read")

        if self.reader == "outcomes":
            _after(
                InboxReader, "_apply_backpressure", lambda feed, consumer: bool(feed._inboxes) and broken()
            )
        else:
            _after(PlanReader, "_read", lambda reader, message: reader.latest is not None and broken())


@dataclass(frozen=True)
class DieInCommit:
    """Death in the n-th transaction of a kind, in any lane of queries.

    Parameters
    ----------
    work : {"route", "sample"}
        Transactions that route queries, or those of warm-up that only sample them.
    batch : int
        Number of the transaction; those without queries do not count.
    moment : {"before", "flushed", "after"}
        Before anything is sent, with all sent and nothing committed, or right after the commit.
    """

    work: str
    batch: int
    moment: str

    def __call__(self) -> None:
        die_in_nth(f"_{self.work}", lambda processor, arguments: arguments[-1], self.batch, self.moment)


def die_in_nth(work: str, counts: Callable[[Any, tuple[Any, ...]], object], batch: int, moment: str) -> None:
    """Let the worker die in the n-th transaction in which a lane's router does some work.

    Parameters
    ----------
    work : str
        Method of `RouterProcessor`.
    counts : callable
        Returns whether a call counts, from the processor and the call's arguments.
    batch : int
        Number of the transaction.
    moment : {"before", "flushed", "after"}
    """
    from streams.kafka.transactions import FencedProducer
    from streams.router.router import RouterProcessor

    original, count = getattr(RouterProcessor, work), iter(range(1, 1 << 60))
    armed: list[FencedProducer] = []

    def arming(processor: RouterProcessor, *arguments: Any) -> Any:
        if counts(processor, arguments) and next(count) == batch and processor._producer is not None:
            armed.append(processor._producer)
        return original(processor, *arguments)

    setattr(RouterProcessor, work, arming)
    die_in_commit(armed, moment)


@dataclass(frozen=True)
class DieInPlanner:
    """Death of the planner's worker.

    Parameters
    ----------
    moment : {"sampling", "solving", "published"}
        After some samples of a period, while the linear program is solved, or right after the first
        learned plan is committed.
    """

    moment: str

    def __call__(self) -> None:
        from routing.planning.counter_prices import CounterPricing
        from routing.planning.planner import Planner
        from streams.planner.planner import PlannerProcessor

        if self.moment == "sampling":
            _before(Planner, "_store", lambda planner, *arguments: planner.observed > 0)
        elif self.moment == "solving":
            _before(CounterPricing, "prices", lambda pricing, *arguments: True)
        else:
            _after(PlannerProcessor, "_publish", lambda processor, plan: plan.learned)


def _before(kind: Any, name: str, condition: Callable[..., bool]) -> None:
    original = getattr(kind, name)

    def dying(self: Any, *arguments: Any) -> Any:
        if condition(self, *arguments):
            die()
        return original(self, *arguments)

    setattr(kind, name, dying)


def _after(kind: Any, name: str, condition: Callable[..., bool]) -> None:
    original = getattr(kind, name)

    def dying(self: Any, *arguments: Any) -> Any:
        result = original(self, *arguments)
        if condition(self, *arguments):
            die()
        return result

    setattr(kind, name, dying)


def frequent_heartbeats() -> None:
    """Publish the worker's state every second."""
    from streams.worker import monitoring

    monitoring.HEARTBEAT_SECONDS = 1.0


def embed_at_once() -> None:
    """Replace the embedding model by one that needs no loading; its vectors carry no meaning."""
    import numpy as np

    from routing.embedding.embedder import SentenceTransformerEmbedder
    from routing.embedding.query_batch import (
        QueryBatch,
    )

    def embed(embedder: SentenceTransformerEmbedder, prompts: list[str]) -> QueryBatch:
        return QueryBatch(prompts, np.eye(len(prompts), 384, dtype=np.float32))

    SentenceTransformerEmbedder.embed = embed  # type: ignore[method-assign, assignment]
