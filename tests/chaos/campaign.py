"""Random faults, one after the other and on top of each other, and what they left behind."""

from __future__ import annotations

import itertools
import random
import secrets
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from infra.broker import BrokerError, NativeCluster
from streams.checker import Verdict
from streams.topics import TopicMismatch
from streams.worker import planning_settings
from tests.chaos.traffic import Tracker, Traffic
from tests.end_to_end.data import Small
from tests.end_to_end.routers import Router
from tests.end_to_end.workers import Worker

PHASES = ("warm-up", "routing", "re-solving", "settlement", "roll-over")
MAIN = ("missing", "twice", "overspent", "ledger_differs")
SESSION_SECONDS = 4
SLOW_SECONDS = 30.0
"""A recovery that takes longer is told at once, with where to look why."""

PHASE_SECONDS = 120.0
"""Longest wait for the phase that a fault shall meet; then it meets what there is, and is counted as that."""

PATIENCE_SECONDS = 150.0
"""Longest wait for everything that was sent to be routed and settled once the faults are over."""


@dataclass
class Result:
    """What a campaign came to."""

    faults: int = 0
    queries: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Every invariant holds, and every fault was recovered from."""
        return not self.counts and not self.broken

    def to_dict(self) -> dict[str, Any]:
        """The line that `make chaos` prints."""
        return {
            "faults": self.faults,
            "queries": self.queries,
            **{name: self.counts[name] for name in MAIN},
            "seconds_to_recover_p50": round(statistics.median(self.seconds), 1) if self.seconds else None,
            "seconds_to_recover_max": round(max(self.seconds), 1) if self.seconds else None,
            "fine": self.fine,
            "phases": {phase: self.phases[phase] for phase in PHASES},
            "kinds": dict(self.kinds),
        }

    def seldom(self, least: int) -> list[str]:
        """Phases that fewer faults than these met."""
        return [phase for phase in PHASES if self.phases[phase] < least]

    def details(self) -> dict[str, Any]:
        """All of it, for `of` to read back."""
        return {
            "faults": self.faults,
            "queries": self.queries,
            "counts": dict(self.counts),
            "kinds": dict(self.kinds),
            "phases": dict(self.phases),
            "seconds": [round(seconds, 2) for seconds in self.seconds],
            "rounds": self.rounds,
            "broken": self.broken,
        }

    @classmethod
    def of(cls, details: dict[str, Any]) -> Result:
        """What `details` told."""
        counters = {name: Counter(details[name]) for name in ("counts", "kinds", "phases")}
        return cls(**{**details, **counters})


class Round:
    """One router, its workers and traffic, on a cluster whose brokers may die too.

    Parameters
    ----------
    cluster : NativeCluster
    small : Small
    folder : Path
    rng : random.Random
    kinds : tuple of str
        Faults to choose from.
    workers : int
    rate : float
        Queries a second.
    say : callable
        Told what happens.
    """

    def __init__(
        self,
        cluster: NativeCluster,
        small: Small,
        folder: Path,
        rng: random.Random,
        *,
        kinds: tuple[str, ...],
        workers: int,
        rate: float,
        say: Callable[[str], None],
        **settings: Any,
    ) -> None:
        self.cluster, self.rng, self.kinds, self.say = cluster, rng, kinds, say
        self.router = self._router(small, folder, settings)
        self.router.observer.stop()
        llms = [self.router.topics.llm(slug) for slug in self.router.catalogue.slugs]
        names = [*llms, self.router.topics.unserved, self.router.topics.dlq]
        self.tracker = Tracker(self.router.settings, names, rng.randrange(2**30))
        self.router.observer = self.tracker
        self.workers: list[Worker] = [self.router.start() for _ in range(workers)]
        # of the queries that prices are learned from, half: warm-up lasts until a fault has met it
        planning = planning_settings(self.router.settings)
        self.traffic = Traffic(
            self.router, self.tracker, rate, rng.randrange(2**30), planning.warmup_queries // 2
        )
        self.waiting: list[tuple[float, str]] = []
        self.result = Result()

    def _router(self, small: Small, folder: Path, settings: dict[str, Any]) -> Router:
        """A router on new topics; brokers that a round before killed may take their time to lead them."""
        for attempt in range(1, 6):
            name = f"chaos-{secrets.token_hex(4)}"
            try:
                return Router(
                    self.cluster.bootstrap_servers, small, folder, name,
                    replication_factor=len(self.cluster.node_ids), session_timeout_seconds=SESSION_SECONDS,
                    batch_max=200, **settings,
                )  # fmt: skip
            except (KafkaException, TopicMismatch) as error:
                self.say(f"topics of {name}, attempt {attempt}: {error}")
        raise BrokerError("no topics could be made in five attempts")

    # ---- the state that a fault should meet --------------------------------------------------------------

    def reach(self, phase: str, seconds: float = PHASE_SECONDS) -> str:
        """Wait until the router is in a phase; the phase that it is in."""
        if phase != "warm-up":
            self.traffic.release()
        before, deadline = self._counts(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            now = self._counts()
            learned = now["version"] > 0
            reached = {
                "warm-up": not learned and now["sampled"] > 0,
                "routing": learned,
                "re-solving": now["version"] > before["version"] > 0,
                "settlement": learned and now["settled"] > before["settled"],
                "roll-over": now["period"] > before["period"] > 0,
            }[phase]
            if reached:
                return phase
            if phase == "warm-up" and learned:
                break  # there is none any more in this round
            before = {name: before[name] or now[name] for name in now}  # a first plan is none that followed
            self.note_recovered()
            self.revive()
            time.sleep(0.02)
        met = "routing" if self._counts()["version"] else "warm-up"
        self.say(f"{phase} was waited for in vain: it is {met}")
        return met

    def _counts(self) -> dict[str, int]:
        """How far the lanes have come, by their ledgers."""
        records = self.router.ledgers().values()
        return {
            "period": max((record.account.period for record in records), default=0),
            "version": max((record.version for record in records), default=0),
            "sampled": sum(record.sampled for record in records),
            "settled": sum(record.outcomes.get("settled", 0) for record in records),
        }

    # ---- faults ------------------------------------------------------------------------------------------

    def fault(self, kind: str, phase: str) -> None:
        """Do it; what has to be restarted is restarted a moment later."""
        number = self._worker()
        if kind == "stop":
            # a process that has not come to the worker's program yet cannot say that it was told to stop
            self._until(lambda: self.workers[number].logged("history_loaded"), 60)
        phase = self.reach(phase)
        self.result.faults += 1
        self.result.kinds[kind] += 1
        self.result.phases[phase] += 1
        self.say(f"{kind} in {phase}, {len(self.tracker.sent)} queries on their way")
        moment = time.monotonic()
        self.waiting.append((moment, kind))
        getattr(self, f"_{kind}")(number)
        self.traffic.release()
        self.note_recovered()

    def _worker(self) -> int:
        return self.rng.randrange(len(self.workers))

    def _kill(self, number: int) -> None:
        self.workers[number].kill()
        self._pause(0, 3)
        self.workers[number] = self.router.start()

    def _kill_all(self, number: int) -> None:
        for worker in self.workers:
            worker.kill()
        self._pause(0, 1)
        self.workers = [self.router.start() for _ in self.workers]

    def _stop(self, number: int) -> None:
        status = self.workers[number].stop(60)
        if status != 0:
            self.result.broken.append(f"{self.workers[number].log} ended with {status} when told to stop")
        self.workers[number] = self.router.start()

    def _freeze(self, number: int) -> None:
        self.workers[number].freeze()
        self._pause(1.5 * SESSION_SECONDS, 2.5 * SESSION_SECONDS)
        self.workers[number].thaw()

    def _broker(self, number: int) -> None:
        node = self.rng.choice(self.cluster.node_ids)
        self.cluster.kill(node)
        self._pause(1, 5)
        self._restart(node)

    def _broker_and_worker(self, number: int) -> None:
        node = self.rng.choice(self.cluster.node_ids)
        self.cluster.kill(node)
        self.workers[number].kill()
        self._pause(0, 2)
        self.workers[number] = self.router.start()
        self._restart(node)

    def _restart(self, node: int) -> None:
        try:
            self.cluster.start(node, timeout=90)
        except BrokerError as error:
            self.say(f"broker {node}: {str(error).splitlines()[0]}; once more")
            self.cluster.start(node, timeout=90)

    def _pause(self, least: float, most: float) -> None:
        until = time.monotonic() + self.rng.uniform(least, most)
        while time.monotonic() < until:
            self.note_recovered()
            time.sleep(0.05)

    def note_recovered(self) -> None:
        """Which faults are over: all queries from before them have landed."""
        for moment, kind in list(self.waiting):
            if self.tracker.recovered(moment):
                self.waiting.remove((moment, kind))
                seconds = time.monotonic() - moment
                self.result.seconds.append(seconds)
                if seconds > SLOW_SECONDS:
                    self.say(f"recovered from {kind} after {seconds:.0f} s; see {self.router.folder}")

    def revive(self) -> None:
        """A worker that ended by itself is reported, and started again as its supervisor would."""
        for number, worker in enumerate(self.workers):
            if not worker.alive:
                reasons = [
                    event.get("reason", "")
                    for event in worker.events()
                    if event.get("event") in ("lane_died", "worker_cannot_go_on")
                ]
                self.say(f"worker {number} had ended: {worker.log} {reasons[-1:]}")
                self.result.kinds["ended by itself"] += 1
                self.workers[number] = self.router.start()

    # ---- the whole round ---------------------------------------------------------------------------------

    def run(self, faults: int, seconds: float = float("inf")) -> Result:
        """So many random faults, then quiet, then the checker."""
        deadline = time.monotonic() + seconds
        for phase in itertools.islice(self._phases(), faults):
            if time.monotonic() > deadline:
                break
            self.fault(self.rng.choice(self.kinds), phase)
            if self.rng.random() < 0.3:
                self._pause(0, 3)  # the next comes on top
            else:
                self.settle_down(40)
            self.revive()
        return self.conclude()

    def _phases(self) -> Iterator[str]:
        """A round has one warm-up; the other phases in random order, each as often as the others."""
        yield PHASES[0]
        while True:
            yield from self.rng.sample(PHASES[1:], len(PHASES) - 1)

    def settle_down(self, seconds: float) -> None:
        """Wait until all queries from before the faults so far have landed, or so long."""
        self._until(lambda: not self.waiting, seconds)

    def conclude(self) -> Result:
        """No more traffic; everything must be routed and settled, and the checker have nothing to say."""
        self.traffic.stop()
        self._until(lambda: not self.tracker.sent and not self.waiting, PATIENCE_SECONDS)
        self._conclude(self._settled_verdict())
        return self.result

    def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            self.note_recovered()
            time.sleep(0.05)

    def _settled_verdict(self) -> Verdict:
        """The checker's, once nothing waits and every outcome is taken in, or patience is over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.revive()
            taken = sum(sum(record.outcomes.values()) for record in self.router.ledgers().values())
            if taken >= self.traffic.answered or time.monotonic() > deadline:
                verdict = self.router.check(complete=True)
                late = verdict.counts["missing"] or verdict.counts["bill"]
                if not late or time.monotonic() > deadline:
                    break
            time.sleep(0.5)
        for worker in self.workers:
            worker.stop(60)
        return self.router.check(complete=True)

    def _conclude(self, verdict: Verdict) -> None:
        result, records = self.result, self.router.ledgers()
        result.queries += verdict.queries
        result.counts += verdict.counts
        if not verdict.fine:
            result.broken.append(f"{self.router.name}: {verdict.text()}")
        taken = sum(sum(record.outcomes.values()) for record in records.values())
        # more is no fault of the router's: a client that is idempotent alone may send again what a dying
        # broker took, and the checker has compared what was counted with what the topic holds
        if taken < self.traffic.answered:
            result.broken.append(f"{taken} of {self.traffic.answered} outcomes were taken in")
        if self.waiting:
            result.broken.append(f"{self.router.name}: never recovered from {self.waiting}")
        period = max(record.account.period for record in records.values())
        result.rounds.append({"queries": verdict.queries, "deferred": verdict.deferred, "periods": period})
        self.say(
            f"{verdict.queries} queries, {verdict.deferred} deferred, {period} periods, {taken} outcomes: "
            f"{'fine' if verdict.fine else verdict.text()}"
        )

    def close(self) -> None:
        self.router.close()


@contextmanager
def one_round(*arguments: Any, **options: Any) -> Iterator[Round]:
    """A round that leaves nothing running."""
    made = Round(*arguments, **options)
    try:
        yield made
    finally:
        made.close()


def add(total: Result, part: Result) -> None:
    """Sum rounds up."""
    total.faults += part.faults
    total.queries += part.queries
    for name in ("counts", "kinds", "phases"):
        getattr(total, name).update(getattr(part, name))
    total.seconds += part.seconds
    total.rounds += part.rounds
    total.broken += part.broken


def say(text: str) -> None:
    """To people, not to the JSON line."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
