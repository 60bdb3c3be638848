"""Topics, ledgers and a clock in memory, for tests of the planner's processor."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from routing.budgets.catalogue import Catalogue
from routing.feedback.clusters import TaskClusters
from routing.planning.planner import Planner
from routing.policy.account import Account
from routing.policy.plan import Plan
from streams.config.planning_settings import planning_settings
from streams.lanes.stage_timers import Stages
from streams.ledger.account_format import account_to_dict
from streams.ledger.period_messages import newest_periods
from streams.ledger.period_summary import PeriodSummary
from streams.ledger.record import LedgerRecord
from streams.messages.catalogue import (
    CatalogueVersion,
)
from streams.messages.plan import PLAN_KEY, decode_plan
from streams.messages.samples import (
    encode_samples,
)
from streams.planner.planner import PlannerProcessor
from streams.planner.planner_limits import PlannerLimits
from tests.streams.memory_topics import Topics, record_of, settings_of

MODELS = ("a", "b")
ROUND_SECONDS = 0.25
"""A time after which a grant round and an update of bills are due; a binary fraction, so sums are exact."""
BUDGETS = np.array([0.01, 0.02])


class MemoryView:
    """Ledgers in memory, with the interface of `LedgerView`."""

    def __init__(self) -> None:
        self.ready = True
        self.kept: dict[int, LedgerRecord] = {}

    def records(self) -> dict[int, LedgerRecord]:
        return dict(self.kept)

    def write(self, lane: int, **account) -> None:
        changed = replace(Account.fresh(account.pop("period", 1), 2), **account)
        self.kept[lane] = replace(LedgerRecord.fresh(lane), models=MODELS, account=changed)

    def enter(self, period: int, *lanes: int) -> None:
        """Let lanes enter a period and keep their last account."""
        for lane in lanes:
            self.kept[lane] = self.kept[lane].entering(Account.fresh(period, 2))

    def change(self, lane: int, period: int, **amounts) -> None:
        """Change a lane's account of any period."""
        record = self.kept[lane]
        account = record.account_of(period)
        assert account is not None
        self.kept[lane] = record.with_account(replace(account, **amounts))


class MemoryCluster:
    """Topics, ledgers and clock that successive planners share."""

    def __init__(self, **options) -> None:
        self.topics, self.view, self.limits = Topics(), MemoryView(), PlannerLimits()
        self.now = self.computed = 0.0
        self.clusters: TaskClusters | None = None
        self.settings = settings_of(**({"eps": 0.1, "resolve": "geometric"} | options))
        self.names = self.settings.topics
        models = [{"name": name, "budget_usd": 0.01} for name in MODELS]
        first = CatalogueVersion(0, Catalogue.from_dict({"models": models}))
        self.catalogue = SimpleNamespace(latest=first, models={}, pauses={}, top_ups={})
        self.processors: list[PlannerProcessor] = []

    def open_planner(self) -> PlannerProcessor:
        processor = PlannerProcessor(
            self.settings,
            self._make_planner,
            self.view,  # type: ignore[arg-type]
            Stages(),
            self.catalogue,  # type: ignore[arg-type]
            SimpleNamespace(models=MODELS, clusters=self.clusters, budgets=lambda _: BUDGETS),  # type: ignore[arg-type]
            access=self.topics,  # type: ignore[arg-type]
            clock=lambda: self.now,
            monotonic=lambda: self.now,
            processor_time=lambda: self.computed,
            limits=self.limits,
        )
        processor.open()
        self.processors.append(processor)
        return processor

    def _make_planner(self) -> Planner:
        version = self.catalogue.latest
        planning = planning_settings(self.settings, version.catalogue.period)
        options = {"catalogue": version.version, "clock": lambda: self.now}
        return Planner(planning, MODELS, BUDGETS, lanes=2, overflow=True, **options)

    def apply(self, version: int, **fields) -> None:
        """Put another version of the catalogue in force, with more fields."""
        models = [{"name": name, "budget_usd": 0.01} for name in MODELS]
        catalogue = Catalogue.from_dict({"models": models, **fields})
        self.catalogue.latest = CatalogueVersion(version, catalogue)

    def next_round(self, processor: PlannerProcessor) -> None:
        """Advance the clock to the next grant round and update of bills, and process nothing else."""
        self.now += ROUND_SECONDS
        processor.process([])

    @property
    def plans(self) -> list[Plan]:
        return [decode_plan(m.value()) for m in self.topics.of(self.names.plans) if m.key() == PLAN_KEY]

    @property
    def plan(self) -> Plan:
        return self.plans[-1]

    @property
    def bills(self) -> dict[int, PeriodSummary]:
        messages = self.topics.of(self.names.periods)
        return newest_periods((m.key(), m.value()) for m in messages)

    def sample(
        self, n: int, lane: int = 0, *, models: Sequence[str] = MODELS, period: int = 1, arrived: int = 0
    ):
        """Append the samples of n queries of a lane."""
        random = np.random.default_rng(len(self.topics.of(self.names.samples)))
        account = account_to_dict(replace(Account.fresh(period, len(models)), arrived=arrived))
        header = {"period": period, "lane": lane, "account": account, "next": 0, "models": models}
        shape = (n, len(models))
        value = encode_samples(header, random.random(shape), random.uniform(1e-5, 1e-3, shape), "<f8")
        self.topics.add(self.names.samples, value)

    def deliver(self, processor: PlannerProcessor, most: int = 10**6) -> None:
        """Process the waiting samples, as the planner's lane does."""
        waiting = self.topics.of(self.names.samples)[processor.next_offset :][:most]
        processor.process([record_of(message) for message in waiting])
