"""A worker's lanes on topics in memory, for tests of the router's processor."""

import time
from types import SimpleNamespace

import numpy as np
import orjson

from routing.budgets.model import Model
from routing.budgets.money import PICO, read_pico, to_pico
from routing.feedback.clusters import TaskClusters
from routing.policy.plan import Plan
from streams.lanes.stage_timers import Stages
from streams.ledger.record import LedgerRecord
from streams.ledger.record_log import LedgerLog
from streams.messages.outcome import (
    Outcome,
    encode_outcome,
)
from streams.messages.samples import (
    decode_samples,
)
from streams.router.charges import charge_estimates
from streams.router.context import WorkerContext
from streams.router.overflow_intake import (
    OverflowIntake,
)
from streams.router.query_intake import QueryIntake
from streams.router.router import RouterProcessor
from streams.router.token_counts import expected_tokens
from tests.streams.memory_topics import Topics, record_of, settings_of
from tests.streams.stepped_router import MODELS, make_estimating, prompt_of

POOL = 2
PRICED = np.array([300.0, 300.0, 300.0])
ESTIMATION = make_estimating()


def plan_with(**fields) -> Plan:
    """Return a plan that grants a cent of every LLM to lanes 0 and 1 and to the pool."""
    cent = np.full((3, 3), PICO // 100, dtype=np.int64)
    plain = {
        "period": 1,
        "version": 1,
        "revision": 5,
        "models": MODELS,
        "active": np.ones(3, dtype=bool),
        "budgets": cent.sum(0),
        "prices": PRICED,
        "learned": True,
        "granted": cent,
        "target": cent,
        "overflow": True,
        "horizon": 100,
    }
    return Plan(**(plain | fields))


class RecordingFeed:
    """An outcome reader that only records which inboxes to fill, and from which offset."""

    def __init__(self) -> None:
        self.watched: dict[int, tuple[int, object]] = {}

    def add_lane(self, lane, offset, inbox) -> None:
        self.watched[lane] = (offset, inbox)

    def remove_lane(self, lane) -> None:
        self.watched.pop(lane, None)


class MemoryRouter:
    """One worker's lanes on topics in memory, at a time that tests set."""

    def __init__(self, **options) -> None:
        self.topics = Topics()
        self.clusters: TaskClusters | None = None
        self.now = time.time()
        self.settings = settings_of(**options)
        self.names = self.settings.topics
        self.plans = SimpleNamespace(latest=plan_with())
        models = {name: Model(name) for name in (*MODELS, "new")}
        latest = SimpleNamespace(version=0, catalogue=SimpleNamespace(allow=()))
        self.catalogue = SimpleNamespace(latest=latest, models=models)
        self.feed, self.returned = RecordingFeed(), RecordingFeed()
        self.written: list[LedgerRecord] = []
        self.shared = WorkerContext(
            self.settings,
            self.catalogue,
            charge_estimates,
            expected_tokens(lambda plan: {}, 1000),
            self.plans,
            self.feed,
            self.returned,
            Stages(),  # type: ignore[arg-type]
            self.written.append,
            self.topics,  # type: ignore[arg-type]
            lambda: self.now,
        )

    def open_lane(self, lane: int = 0) -> RouterProcessor:
        own = ESTIMATION
        intake = QueryIntake(own.embedder, own.dimension, own.estimator, clusters=self.clusters)
        if lane == POOL:
            ledger = self.names.overflow_ledger
            processor = RouterProcessor(self.shared, POOL, OverflowIntake(intake.clusters), ledger, 0, intake)
        else:
            processor = RouterProcessor(self.shared, lane, intake, self.names.ledger, lane)
        processor.open()
        return processor

    def send(self, *ids: str, lane: int = 0, headers=(), most: int | None = None) -> None:
        for name in ids:
            value = orjson.dumps({"id": name, "prompt": prompt_of(name), "team": 7, "max_tokens": most})
            self.topics.add(self.names.queries, value, lane, headers)

    def deliver(self, processor: RouterProcessor, most: int = 10**6) -> int:
        """Process the lane's waiting input, at most as much as its processor accepts now."""
        processor.refresh_plan()
        topic, partition = (
            (self.names.overflow, 0) if processor.lane == POOL else (self.names.queries, processor.lane)
        )
        rest = self.topics.of(topic, partition)[processor.next_offset :]
        waiting = rest[: min(most, processor.max_records)]
        if waiting:
            processor.process([record_of(message, topic, partition) for message in waiting])
        return len(waiting)

    def step(self, processor: RouterProcessor) -> None:
        processor.refresh_plan()
        processor.process([])

    def places(self) -> dict[str, list[str]]:
        """Return the topics that hold each query, by its id, as a reader of committed messages sees them."""
        places: dict[str, list[str]] = {}
        named = {self.names.llm(model.slug): name for name, model in self.catalogue.models.items()}
        named |= {self.names.unserved: "unserved", self.names.dlq: "dlq"}
        for (topic, _), messages in self.topics.kept.items():
            if topic in named:
                for message in messages:
                    body = orjson.loads(message.value())
                    places.setdefault(body["id"], []).append(named[topic])
        return places

    def routed(self) -> list[dict]:
        out = []
        for name, model in self.catalogue.models.items():
            topic = self.names.llm(model.slug)
            for message in [
                one for place, messages in self.topics.kept.items() if place[0] == topic for one in messages
            ]:
                out.append(orjson.loads(message.value()))
                assert out[-1]["routing"]["model"] == name
        return out

    def ledger(self, lane: int) -> LedgerRecord:
        topic, partition = (self.names.overflow_ledger, 0) if lane == POOL else (self.names.ledger, lane)
        log = LedgerLog()
        for message in self.topics.of(topic, partition):
            log.append(message.key(), message.value())
        return log.record()  # type: ignore[return-value]

    def assert_ledgers_match_topics(self, *lanes: int) -> None:
        """Assert that the lanes' ledgers equal the sums over the topics."""
        for lane in lanes:
            record = self.ledger(lane)
            costs = {
                (body["partition"], body["offset"]): int(to_pico(body["cost"]))
                for message in self.topics.of(self.names.outcomes, lane)[: record.outcomes_next]
                for body in [orjson.loads(message.value())]
                if "cost" in body
            }
            for account in record.accounts:
                charged, served, settled = np.zeros((3, len(record.models)), dtype=np.int64)
                for query in self.routed():
                    routing = query["routing"]
                    if routing["partition"] == lane and routing["period"] == account.period:
                        i = record.models.index(routing["model"])
                        charged[i] += int(read_pico(routing["cost"]))
                        served[i] += 1
                        settled[i] += costs.get((lane, routing["offset"]), 0)
                width = len(account.reserved)
                assert account.reserved.tolist() == charged[:width].tolist()
                assert account.served.tolist() == served[:width].tolist()
                assert account.settled.tolist() == settled[:width].tolist()
            left = record.account.available(self.plans.latest.granted[lane])
            assert record.account.settlements.any() or (left >= 0).all()

    def samples(self) -> list[tuple[int, int, int, int, int]]:
        """Return period, lane, begin, end and number of each message of samples."""
        out = []
        for message in self.topics.of(self.names.samples):
            header, quality, _ = decode_samples(message.value())
            out.append((header["period"], header["lane"], header["begin"], header["end"], len(quality)))
        return out


def ids(count: int, start: int = 0) -> list[str]:
    return [f"q{number}" for number in range(start, start + count)]


def waiting_plan(**fields) -> Plan:
    return plan_with(**({"version": 0, "learned": False, "until": 10, "prices": np.zeros(3)} | fields))


def outcome_of(query: dict, cost: float) -> bytes:
    routing = query["routing"]
    return encode_outcome(
        Outcome(query["id"], routing["model"], cost, None, routing["partition"], routing["offset"])
    )


def final_period(router: MemoryRouter) -> int:
    """Return the last period in which no lane's account can change, as a planner computes it."""
    records = [router.ledger(lane) for lane in (0, POOL)]
    billed = router.plans.latest.billed
    while all(record is not None and record.account.period > billed + 1 for record in records):
        accounts = [a for one in records if (a := one.account_of(billed + 1)) is not None]
        if any((a.served != a.settlements + a.lapsed).any() for a in accounts):
            break
        billed += 1
    return billed


def deliver_outcomes(router: MemoryRouter, processor: RouterProcessor) -> None:
    """Put the waiting outcomes into the lane's inbox, as the outcome reader does."""
    offset, inbox = router.feed.watched[processor.lane]
    inbox.extend(router.topics.of(router.names.outcomes, processor.lane)[offset:])  # type: ignore[attr-defined]
    router.feed.watched[processor.lane] = (
        len(router.topics.of(router.names.outcomes, processor.lane)),
        inbox,
    )
