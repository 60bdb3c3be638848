"""Faults that are injected into a worker: batches lost, lanes that raise, death at a chosen moment."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def die() -> None:
    """As kill -9 does: nothing is finished, flushed or told."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_commit(armed: list[Any], moment: str) -> None:
    """From now on a commit of an armed producer kills the process: before, all flushed, or after."""
    from streams.transactions import END_SECONDS, FencedProducer

    def commit(producer: FencedProducer) -> None:
        now = producer in armed
        if now and moment == "before":
            die()
        producer._producer.flush(END_SECONDS)
        if now and moment == "flushed":
            die()
        producer._producer.commit_transaction(END_SECONDS)
        if now:
            die()

    FencedProducer.commit = commit  # type: ignore[method-assign]


@dataclass(frozen=True)
class LoseBatches:
    """A share of the batches gets lost between fetch and lane."""

    share: float
    seed: int = 0

    def __call__(self) -> None:
        from streams.fetching import RouterApp

        draw = random.Random(self.seed)
        RouterApp.loses = lambda app, tp: draw.random() < self.share  # type: ignore[method-assign]


@dataclass(frozen=True)
class RaiseInLane:
    """A lane raises something that is no Kafka error, at the n-th batch with queries."""

    batch: int

    def __call__(self) -> None:
        from streams.router import RouterDesk

        step, count = RouterDesk.step, iter(range(1, 1 << 60))

        def faulty(desk: RouterDesk, records: list[Any]) -> None:
            if records and next(count) == self.batch:
                raise RuntimeError("injected: this lane raises")
            step(desk, records)

        RouterDesk.step = faulty  # type: ignore[method-assign]


@dataclass(frozen=True)
class RaiseInReader:
    """A thread that reads a topic raises at its next chance once the worker routes.

    Parameters
    ----------
    reader : {"outcomes", "plans"}
    """

    reader: str

    def __call__(self) -> None:
        from streams.outcome_feed import OutcomeFeed
        from streams.plans import PlanReader

        def broken(*arguments: Any) -> None:
            raise RuntimeError(f"injected: {self.reader} cannot be read")

        if self.reader == "outcomes":
            _after(OutcomeFeed, "_ease", lambda feed, consumer: bool(feed._inboxes) and broken())
        else:
            _after(PlanReader, "_read", lambda reader, message: reader.latest is not None and broken())


@dataclass(frozen=True)
class DieInCommit:
    """Death in the n-th transaction of a kind, in any lane of queries.

    Parameters
    ----------
    work : {"route", "sample"}
        Transactions that route queries, or those of warm-up that pass them over.
    batch : int
        Which of them; those without queries do not count.
    moment : {"before", "flushed", "after"}
        Before anything is sent, with all sent and nothing committed, or right after the commit.
    """

    work: str
    batch: int
    moment: str

    def __call__(self) -> None:
        from streams.router import RouterDesk
        from streams.transactions import FencedProducer

        whole, count = getattr(RouterDesk, f"_{self.work}"), iter(range(1, 1 << 60))
        armed: list[FencedProducer] = []

        def arming(desk: RouterDesk, plan: Any, records: list[Any]) -> None:
            if records and next(count) == self.batch and desk._producer is not None:
                armed.append(desk._producer)
            whole(desk, plan, records)

        setattr(RouterDesk, f"_{self.work}", arming)
        die_in_commit(armed, self.moment)


@dataclass(frozen=True)
class DieInPlanner:
    """Death of the planner's worker.

    Parameters
    ----------
    moment : {"sampling", "solving", "published"}
        With some samples of a period taken in, while the linear programme is being solved, or right after
        the first learned plan is committed.
    """

    moment: str

    def __call__(self) -> None:
        from routing.planning import Planner
        from streams.planner import PlannerDesk

        if self.moment == "sampling":
            _before(Planner, "_store", lambda planner, estimates: planner.observed > 0)
        elif self.moment == "solving":
            _before(Planner, "prices", lambda planner, *arguments: True)
        else:
            _after(PlannerDesk, "_publish", lambda desk, plan: plan.learned)


def _before(kind: Any, name: str, condition: Callable[..., bool]) -> None:
    whole = getattr(kind, name)

    def dying(self: Any, *arguments: Any) -> Any:
        if condition(self, *arguments):
            die()
        return whole(self, *arguments)

    setattr(kind, name, dying)


def _after(kind: Any, name: str, condition: Callable[..., bool]) -> None:
    whole = getattr(kind, name)

    def dying(self: Any, *arguments: Any) -> Any:
        result = whole(self, *arguments)
        if condition(self, *arguments):
            die()
        return result

    setattr(kind, name, dying)


def embed_at_once() -> None:
    """The embedding model is there without being loaded, and its vectors are of no use."""
    import numpy as np

    from routing.embedding import SentenceTransformerEmbedder
    from routing.estimators.base import QueryBatch

    def embed(embedder: SentenceTransformerEmbedder, prompts: list[str]) -> QueryBatch:
        return QueryBatch(prompts, np.eye(len(prompts), 384, dtype=np.float32))

    SentenceTransformerEmbedder.embed = embed  # type: ignore[method-assign, assignment]
