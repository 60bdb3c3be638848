"""The planner and the lanes of a router on the same topics in memory, with budgets that tests choose."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import SimpleNamespace

import orjson

from routing.budgets.budget import Budget
from routing.budgets.catalogue import Catalogue
from routing.planning.planner import Planner, PlanningSettings
from routing.policy.plan import Plan
from streams.audit.topic_records import TopicRecord
from streams.lanes.stage_timers import Stages
from streams.ledger.record import LedgerRecord
from streams.messages.catalogue import CatalogueVersion
from streams.messages.plan import PlanAssembler
from streams.planner.planner import PlannerProcessor
from streams.router.router import RouterProcessor
from tests.end_to_end.recorded_topics import Recorded
from tests.streams.memory_topics import record_of
from tests.streams.router.memory_router import ESTIMATION, POOL, MemoryRouter, deliver_outcomes, outcome_of
from tests.streams.stepped_router import MODELS, prompt_of

LANES = (0, 1, POOL)


class MemoryStream:
    """A planner and three lanes, the overflow lane included.

    Parameters
    ----------
    budgets : Budget
        Of the catalogue.
    horizon : int
        Queries in a period.
    """

    def __init__(self, *budgets: Budget, horizon: int = 1000) -> None:
        self.router = MemoryRouter(horizon=horizon, warmup="history")
        self.budgets, self.horizon = budgets, horizon
        self.topics, self.names = self.router.topics, self.router.names
        self.sent = 0
        self.planner = self.open_planner()
        self.read_plan()
        self.lanes: dict[int, RouterProcessor] = {lane: self.router.open_lane(lane) for lane in LANES}

    @property
    def plan(self) -> Plan:
        """Plan on the topic of plans."""
        plan: Plan = self.router.plans.latest
        return plan

    def ledgers(self) -> dict[int, LedgerRecord]:
        """Return the lanes' committed records."""
        records = {lane: self.router.ledger(lane) for lane in LANES}
        return {lane: record for lane, record in records.items() if record is not None}

    def open_planner(self) -> PlannerProcessor:
        """Return another planner, which resumes from the topic and fences the one before."""
        latest = CatalogueVersion(0, Catalogue.from_dict({"budget_usd": 1.0, "models": list(MODELS)}))
        planning = PlanningSettings(horizon=self.horizon, warmup="history", resolve="once", eps=0.1)
        processor = PlannerProcessor(
            self.router.settings,
            lambda: Planner(
                planning,
                MODELS,
                self.budgets,
                lanes=2,
                overflow=True,
                history=ESTIMATION.leave_one_out(),
                clock=lambda: self.router.now,
            ),
            SimpleNamespace(ready=True, records=self.ledgers),  # type: ignore[arg-type]
            Stages(),
            SimpleNamespace(latest=latest, models={}, pauses={}, top_ups={}),  # type: ignore[arg-type]
            SimpleNamespace(models=MODELS, clusters=None),  # type: ignore[arg-type]
            access=self.topics,  # type: ignore[arg-type]
            clock=lambda: self.router.now,
            monotonic=lambda: self.router.now,
        )
        processor.open()
        return processor

    def restart_planner(self) -> None:
        """Lose the planner with its memory, and open another."""
        self.planner = self.open_planner()

    def read_plan(self) -> None:
        """Give the lanes the plan on the topic."""
        assembler, plan = PlanAssembler(), None
        for message in self.topics.of(self.names.plans):
            plan = assembler.append(message.key(), message.value()) or plan
        assert plan is not None
        self.router.plans.latest = plan

    def send(self, count: int, lane: int = 0, **fields: object) -> None:
        """Append queries to a lane's input."""
        for number in range(self.sent, self.sent + count):
            name = f"q{number}"
            value = orjson.dumps({"id": name, "prompt": prompt_of(name), **fields})
            self.topics.add(self.names.queries, value, lane)
        self.sent += count

    def round(self, seconds: float = 0.25) -> None:
        """Advance the clock to a grant round, then let each lane decide its waiting queries."""
        self.router.now += seconds
        waiting = self.topics.of(self.names.samples)[self.planner.next_offset :]
        self.planner.process([record_of(message) for message in waiting])
        self.read_plan()
        for lane, processor in self.lanes.items():
            while self.router.deliver(processor):
                pass
            if lane in self.router.feed.watched:
                deliver_outcomes(self.router, processor)
            self.router.step(processor)

    def settle(self, factor: float, tokens: int | None = None) -> None:
        """Append an outcome to each routed query without one, at a multiple of its reserved cost."""
        done = defaultdict(set)
        for lane in LANES:
            for message in self.topics.of(self.names.outcomes, lane):
                done[lane].add(orjson.loads(message.value())["offset"])
        for query in self.router.routed():
            routing = query["routing"]
            if routing["offset"] not in done[routing["partition"]]:
                value = orjson.loads(outcome_of(query, routing["cost"] * factor))
                value |= {} if tokens is None else {"tokens": tokens}
                self.topics.add(self.names.outcomes, orjson.dumps(value), routing["partition"])

    def charged(self, *key: str | None) -> int:
        """Return what all lanes charged to a counter in the plan's period."""
        total = 0
        for record in self.ledgers().values():
            account = record.account_of(self.plan.period)
            if account is not None and account.counters is not None:
                column = account.counters.column_of.get(key)  # type: ignore[call-overload]
                total += 0 if column is None else int(account.charged[column])
        return total

    def limit(self, *key: str | None) -> int:
        """Return the limit of a counter in the plan."""
        return int(self.plan.budgets[self.plan.counters.column_of[key]])  # type: ignore[index]

    def served(self) -> int:
        """Return the number of routed queries."""
        return len(self.router.routed())

    def unserved(self) -> Counter[tuple[str, ...]]:
        """Return the number of unserved queries by reason and exhausted counters."""
        messages = [
            m for (topic, _), ms in self.topics.kept.items() if topic == self.names.unserved for m in ms
        ]
        bodies = [orjson.loads(message.value() or b"") for message in messages]
        return Counter((body["reason"], *body["routing"].get("exhausted", ())) for body in bodies)

    def recorded(self) -> Recorded:
        """Return a copy of the topics for the audit."""
        entries: dict[str, list[TopicRecord]] = {self.names.queries: []}
        for (topic, partition), messages in self.topics.kept.items():
            entries.setdefault(topic, []).extend(
                TopicRecord(topic, partition, m.offset(), m.key(), m.value(), tuple(m.headers() or ()))
                for m in messages
            )
        partitions = dict.fromkeys(entries, 1) | {self.names.queries: 2, self.names.ledger: 2}
        return Recorded(self.names, partitions, entries)
