"""Random faults, one after another or overlapping, and a check of their effects."""

from __future__ import annotations

import itertools
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from infra.broker.errors import BrokerError
from infra.broker.native import NativeCluster
from streams.audit.check import Findings
from streams.config.planning_settings import planning_settings
from streams.kafka.topics import TopicMismatch
from streams.messages.pause import ManualPause
from streams.planner.catalogue_publisher import CataloguePublisher
from tests.chaos.budgets import charged_by_budget
from tests.chaos.result import PHASES, Result
from tests.chaos.traffic import Tracker, Traffic
from tests.end_to_end.round_faults import FREEZE, HOLD, KILL, FaultsInRounds, met
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import Worker

SESSION_SECONDS = 4
SLOW_SECONDS = 30.0
"""A longer recovery is reported at once, with the folder of its logs."""

HOLD_SECONDS = 3.0
"""Time for which a transaction is held open while a worker joins."""

ROUND_SECONDS = 20.0
"""Longest wait for the transaction in which a worker is disturbed: its lanes may be another worker's."""

PHASE_SECONDS = 120.0
"""Longest wait for the phase that a fault should meet; after it, the fault counts for the current phase."""

PATIENCE_SECONDS = 150.0
"""Longest wait after the last fault until everything sent is routed and settled."""


class Round:
    """One router with workers and traffic, on a cluster whose brokers may be killed, too.

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
        Called with each message for people.
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
        self.workers: list[Worker] = [self._start() for _ in range(workers)]
        # Half of the queries that prices are learned from: warm-up lasts until a fault has met it.
        planning = planning_settings(self.router.settings)
        self.traffic = Traffic(
            self.router, self.tracker, rate, rng.randrange(2**30), planning.warmup_queries // 2
        )
        self.waiting: list[tuple[float, str]] = []
        self.result = Result()

    def _router(self, small: Small, folder: Path, settings: dict[str, Any]) -> Router:
        """Create a router on new topics; brokers killed in the last round may need time to lead them."""
        for attempt in range(1, 6):
            name = f"chaos-{secrets.token_hex(4)}"
            try:
                return Router(
                    self.cluster.bootstrap_servers,
                    small,
                    folder,
                    name,
                    replication_factor=len(self.cluster.node_ids),
                    session_timeout_seconds=SESSION_SECONDS,
                    batch_max=200,
                    **settings,
                )
            except (KafkaException, TopicMismatch) as error:
                self.say(f"topics of {name}, attempt {attempt}: {error}")
        raise BrokerError("topics could not be created in five attempts")

    # ---- the phase that a fault should meet --------------------------------------------------------------

    def reach(self, phase: str, seconds: float = PHASE_SECONDS) -> str:
        """Wait until the router is in a phase, and return the phase that it is in."""
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
                break  # warm-up is over for this round
            before = {name: before[name] or now[name] for name in now}  # the first plan is not a re-solving
            self.note_recovered()
            self.revive()
            time.sleep(0.02)
        met = "routing" if self._counts()["version"] else "warm-up"
        self.say(f"{phase} did not come in time; the phase is {met}")
        return met

    def _counts(self) -> dict[str, int]:
        """Return the progress of the lanes, from their ledgers."""
        records = self.router.ledgers().values()
        return {
            "period": max((record.account.period for record in records), default=0),
            "version": max((record.version for record in records), default=0),
            "sampled": sum(record.sampled for record in records),
            "settled": sum(record.outcomes.get("settled", 0) for record in records),
        }

    # ---- faults ------------------------------------------------------------------------------------------

    def _start(self) -> Worker:
        """Start a worker that can be disturbed in the middle of a transaction."""
        return self.router.start(FaultsInRounds(HOLD_SECONDS))

    def fault(self, kind: str, phase: str) -> None:
        """Inject a fault; whatever it stopped is restarted a moment later."""
        number = self._worker()
        if kind == "stop" or kind.endswith("_in_round"):
            # Before the worker's program runs, a signal would end the process with another status.
            self._until(lambda: self.workers[number].logged("history_loaded"), 60)
        phase = self.reach(phase)
        self.result.faults += 1
        self.result.kinds[kind] += 1
        self.result.phases[phase] += 1
        self.say(f"{kind} in {phase}, {len(self.tracker.sent)} queries in flight")
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
        self.workers[number] = self._start()

    def _kill_all(self, number: int) -> None:
        for worker in self.workers:
            worker.kill()
        self._pause(0, 1)
        self.workers = [self._start() for _ in self.workers]

    def _stop(self, number: int) -> None:
        status = self.workers[number].stop(60)
        if status != 0:
            self.result.broken.append(f"{self.workers[number].log} ended with {status} after SIGTERM")
        self.workers[number] = self._start()

    def _freeze(self, number: int) -> None:
        self.workers[number].freeze()
        self._pause(1.5 * SESSION_SECONDS, 2.5 * SESSION_SECONDS)
        self.workers[number].thaw()

    def _kill_in_round(self, number: int) -> None:
        worker = self.workers[number]
        worker.send(KILL)
        self._until(lambda: not worker.alive, ROUND_SECONDS)
        self._kill(number)

    def _freeze_in_round(self, number: int) -> None:
        self._disturb(number, FREEZE)
        self._freeze(number)

    def _rebalance_in_round(self, number: int) -> None:
        self._disturb(number, HOLD)
        joining = self._start()
        self._until(lambda: joining.logged("lanes_assigned"), SLOW_SECONDS)
        joining.stop(60)

    def _disturb(self, number: int, fault: int) -> None:
        """Signal a worker, and wait until it has met the fault in a transaction, or until the time is up."""
        worker = self.workers[number]
        count = met(worker, fault)
        worker.send(fault)
        self._until(lambda: met(worker, fault) > count, ROUND_SECONDS)

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
        self.workers[number] = self._start()
        self._restart(node)

    def _server(self, number: int) -> None:
        """Let the server of an LLM fail for up to a minute: all its queries are returned."""
        model = self.rng.choice(self.router.catalogue.names)
        self.tracker.dead.add(model)
        self._pause(10, 60)
        self.tracker.dead.discard(model)

    def _operator(self, number: int) -> None:
        """Pause an LLM by hand for some seconds."""
        model, now = self.rng.choice(self.router.catalogue.names), time.time()
        publisher = CataloguePublisher(self.router.settings)
        publisher.publish_pause(model, ManualPause(now, now + self.rng.uniform(1, 10)))

    def _restart(self, node: int) -> None:
        try:
            self.cluster.start(node, timeout=90)
        except BrokerError as error:
            self.say(f"broker {node}: {str(error).splitlines()[0]}; retrying")
            self.cluster.start(node, timeout=90)

    def _pause(self, minimum: float, maximum: float) -> None:
        until = time.monotonic() + self.rng.uniform(minimum, maximum)
        while time.monotonic() < until:
            self.note_recovered()
            time.sleep(0.05)

    def note_recovered(self) -> None:
        """Record faults as recovered once all queries sent before them have outputs."""
        for moment, kind in list(self.waiting):
            if self.tracker.recovered(moment):
                self.waiting.remove((moment, kind))
                seconds = time.monotonic() - moment
                self.result.recoveries.append((kind, seconds))
                if seconds > SLOW_SECONDS:
                    self.say(f"recovered from {kind} after {seconds:.0f} s; see {self.router.folder}")

    def revive(self) -> None:
        """Report workers that ended by themselves, and restart them as a supervisor would."""
        for number, worker in enumerate(self.workers):
            if not worker.alive:
                reasons = [
                    event.get("reason", "")
                    for event in worker.events()
                    if event.get("event") in ("lane_died", "worker_cannot_go_on")
                ]
                self.say(f"worker {number} had ended: {worker.log} {reasons[-1:]}")
                self.result.kinds["ended by itself"] += 1
                self.workers[number] = self._start()

    # ---- the whole round ---------------------------------------------------------------------------------

    def run(self, faults: int, seconds: float = float("inf")) -> Result:
        """Inject random faults, wait until the router is idle, and audit it."""
        deadline = time.monotonic() + seconds
        for phase in itertools.islice(self._phases(), faults):
            if time.monotonic() > deadline:
                break
            self.fault(self.rng.choice(self.kinds), phase)
            if self.rng.random() < 0.3:
                self._pause(0, 3)  # the next fault overlaps
            else:
                self.settle_down(40)
            self.revive()
        return self.conclude()

    def _phases(self) -> Iterator[str]:
        """Yield warm-up once, then the other phases in random order, each equally often."""
        yield PHASES[0]
        while True:
            yield from self.rng.sample(PHASES[1:], len(PHASES) - 1)

    def settle_down(self, seconds: float) -> None:
        """Wait until the router has recovered from all faults so far, or until the time is up."""
        self._until(lambda: not self.waiting, seconds)

    def conclude(self) -> Result:
        """Stop the traffic, wait until everything is routed and settled, and audit the topics."""
        self.traffic.stop()
        self._until(lambda: not self.tracker.sent and not self.waiting, PATIENCE_SECONDS)
        self._conclude(self._settled_verdict())
        return self.result

    def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            self.note_recovered()
            time.sleep(0.05)

    def _settled_verdict(self) -> Findings:
        """Return the findings once all is routed and settled, or after `PATIENCE_SECONDS`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.revive()
            records = self.router.ledgers().values()
            processed = sum(sum(record.outcomes.values()) for record in records)
            returned = sum(sum(record.returns.values()) for record in records)
            settled = processed >= self.traffic.answered and returned >= self.traffic.returned
            if settled or time.monotonic() > deadline:
                verdict = self.router.check(complete=True)
                late = verdict.counts["missing"] or verdict.counts["bill"]
                if not late or time.monotonic() > deadline:
                    break
            time.sleep(0.5)
        for worker in self.workers:
            worker.stop(60)
        return self.router.check(complete=True)

    def _conclude(self, verdict: Findings) -> None:
        result, records = self.result, self.router.ledgers()
        result.queries += verdict.queries
        result.counts += verdict.counts
        if not verdict.fine:
            result.broken.append(f"{self.router.name}: {verdict.text()}")
        processed = sum(sum(record.outcomes.values()) for record in records.values())
        # More are no error: an idempotent client without transactions may resend what a killed broker
        # accepted, and the audit compares the ledgers with the topic.
        if processed < self.traffic.answered:
            result.broken.append(f"{processed} of {self.traffic.answered} outcomes were processed")
        returned = sum((Counter(record.returns) for record in records.values()), Counter[str]())
        if returned.total() < self.traffic.returned:
            result.broken.append(f"{returned.total()} of {self.traffic.returned} returns were processed")
        if self.waiting:
            result.broken.append(f"{self.router.name}: never recovered from {self.waiting}")
        charged = charged_by_budget(self.router)
        unused = [one.name for one in self.router.catalogue.budgets if not charged[one.name]]
        if unused:
            result.broken.append(f"{self.router.name}: no query drew on {', '.join(unused)}")
        period = max(record.account.period for record in records.values())
        result.rounds.append({"queries": verdict.queries, "deferred": verdict.deferred, "periods": period})
        self.say(
            f"{verdict.queries} queries, {verdict.deferred} deferred, {period} periods, "
            f"{processed} outcomes, returns {dict(returned)}: {'fine' if verdict.fine else verdict.text()}"
        )

    def close(self) -> None:
        self.router.close()


@contextmanager
def one_round(*arguments: Any, **options: Any) -> Iterator[Round]:
    """Create a round, and close it at the end."""
    created = Round(*arguments, **options)
    try:
        yield created
    finally:
        created.close()


def say(text: str) -> None:
    """Print a message for people to standard error, apart from the JSON line."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
