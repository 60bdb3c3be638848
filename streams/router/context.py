"""The components that all lanes of a worker share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streams.config.settings import Settings
from streams.kafka.topic_access import TopicAccess
from streams.lanes.stage_timers import Stages
from streams.ledger.inbox_reader import InboxReader
from streams.ledger.record import LedgerRecord
from streams.planner.catalogue_reader import CatalogueReader
from streams.planner.plan_reader import PlanReader
from streams.router.charges import AnswerLimit, Charger
from streams.router.token_counts import TokenCounter


class DecisionContext(Protocol):
    """The components that decide a batch; see `WorkerContext`."""

    @property
    def settings(self) -> Settings: ...  # noqa: D102
    @property
    def catalogue(self) -> CatalogueReader: ...  # noqa: D102
    @property
    def charge(self) -> Charger: ...  # noqa: D102
    @property
    def count_tokens(self) -> TokenCounter: ...  # noqa: D102
    @property
    def clock(self) -> Callable[[], float]: ...  # noqa: D102


@dataclass(frozen=True)
class WorkerContext:
    """The components that all processors of a worker share.

    Parameters
    ----------
    settings : Settings
    catalogue : CatalogueReader
    charge : Charger
    count_tokens : TokenCounter
    plans : PlanReader
    feed : InboxReader
        Of outcomes.
    returned : InboxReader
        Of returned queries.
    stages : Stages
    on_record : callable
        Called with a lane's ledger record when the lane opens and after each of its transactions.
    access : TopicAccess
        Opens the lanes' producers and reads back their topics.
    clock : callable, optional
        Seconds since the epoch.
    answer_limit : AnswerLimit, optional
        Limits answers whose reservation does not bound them; by default none.
    """

    settings: Settings
    catalogue: CatalogueReader
    charge: Charger
    count_tokens: TokenCounter
    plans: PlanReader
    feed: InboxReader
    returned: InboxReader
    stages: Stages
    on_record: Callable[[LedgerRecord], None]
    access: TopicAccess
    clock: Callable[[], float] = time.time
    answer_limit: AnswerLimit | None = None
