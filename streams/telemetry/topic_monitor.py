"""Monitoring of topics: added partitions, missing topics, topics that were deleted and created again.

Added partitions have no lane; their records are reported, but not read. A topic that was deleted and created
again stops the worker, because positions of the former topic do not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec, TopicDescription

from streams.config.log_throttling import RecurringProblem
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient
from streams.kafka.clients import reader_config
from streams.kafka.group_offsets import forward_group, read_group_offsets
from streams.kafka.topics import ADDED_GUIDE
from streams.ledger.record import DELETED_GUIDE, LedgerRecord

log = structlog.get_logger(__name__)

RECENT_SECONDS = 24 * 3600.0
"""Time for which records that were deleted unread cause a warning."""


@dataclass(frozen=True)
class TopicState:
    """State of the topics at the last refresh.

    Parameters
    ----------
    added : dict of str to int
        Number of partitions without a lane from which nothing was forwarded, by topic.
    unread : int
        Offsets on partitions of the queries without a lane that were not forwarded, transaction markers
        included.
    missing : tuple of str
        Topics that were missing twice in a row.
    """

    added: dict[str, int] = field(default_factory=dict)
    unread: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deleted:
    """Records of one topic that were deleted before they were read, over all lanes.

    Parameters
    ----------
    offsets : int
        Offsets since the first record, transaction markers included.
    at : float
        Time of the last detection, in seconds since the epoch.
    """

    offsets: int = 0
    at: float = 0.0


class TopicMonitor:
    """Looks at a worker's topics.

    Parameters
    ----------
    settings : Settings
    admin : AdminClient
    partitions : mapping of str to int
        Of each topic, so many are used.
    halt : callable
        Called with the reason once nothing may be taken any more.
    """

    def __init__(
        self,
        settings: Settings,
        admin: AdminClient,
        partitions: Mapping[str, int],
        halt: Callable[[str], None],
    ) -> None:
        self._settings, self._admin, self._halt = settings, admin, halt
        self._partitions = dict(partitions)
        topics = settings.topics
        self._required = {
            topics.queries,
            topics.overflow,
            topics.outcomes,
            topics.returned,
            topics.plans,
            topics.ledger,
            topics.overflow_ledger,
            topics.reservations,
            topics.samples,
        }
        self._ids: dict[str, str] = {}
        self._suspected: set[str] = set()
        self._unknown = RecurringProblem("topics_not_known", "topics_known")
        self._forwarded_unknown = RecurringProblem("forwarded_not_known", "forwarded_known")
        self._missing = RecurringProblem("topics_missing", "topics_there")
        self.state = TopicState()

    def refresh(self) -> None:
        """Poll the broker; values that it does not return stay unchanged. Only one thread may call it."""
        try:
            topics, absent = self._describe()
            added = {
                name: more
                for name, topic in topics.items()
                if (more := len(topic.partitions) - self._partitions[name]) > 0
            }
            added, unread = self._unread(added)
        except (KafkaException, TimeoutError) as error:
            self._unknown.occurred(reason=repr(error)[:200])
            return
        self._unknown.resolved()
        self._compare_ids(topics)
        # a broker that has just started may not know all topics yet
        missing, self._suspected = sorted(absent & self._suspected), absent
        if missing:
            self._missing.occurred(topics=missing)
        else:
            self._missing.resolved()
        for name, more in added.items():
            if self.state.added.get(name) != more:
                log.warning(
                    "partitions_added",
                    topic=name,
                    used=self._partitions[name],
                    added=more,
                    guide=ADDED_GUIDE,
                )
        self.state = TopicState(added, unread, tuple(missing))

    @property
    def missing(self) -> tuple[str, ...]:
        """Missing topics that routing depends on."""
        return tuple(name for name in self.state.missing if name in self._required)

    def warnings(self, ledgers: Mapping[int, LedgerRecord], now: float) -> list[str]:
        """Return problems that do not stop the worker."""
        state, queries = self.state, self._settings.topics.queries
        warnings = []
        guide = f"{ADDED_GUIDE[0].upper()}{ADDED_GUIDE[1:]}"
        for name, more in state.added.items():
            unread = f" {state.unread} offsets there are not read." if name == queries else ""
            warnings.append(
                f"topic {name}: has {more} partitions more than the {self._partitions[name]} that the router "
                f"uses.{unread} {guide}"
            )
        if state.unread and queries not in state.added:
            warnings.append(
                f"topic {queries}: {state.unread} offsets on added partitions are not forwarded. {guide}"
            )
        for name, deleted in deleted_offsets(self._settings, ledgers).items():
            if now - deleted.at < RECENT_SECONDS:
                moment = datetime.fromtimestamp(deleted.at, UTC).isoformat(timespec="seconds")
                warnings.append(
                    f"topic {name}: {deleted.offsets} offsets were deleted before they were read, the last "
                    f"noticed at {moment}; {DELETED_GUIDE}"
                )
        return warnings

    def _describe(self) -> tuple[dict[str, TopicDescription], set[str]]:
        """Return descriptions of the existing topics, and the names of the missing ones."""
        descriptions, missing = {}, set()
        futures = self._admin.describe_topics(TopicCollection(list(self._partitions)), request_timeout=5)
        for name, future in futures.items():
            try:
                descriptions[name] = future.result(6)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                missing.add(name)
        return descriptions, missing

    def _unread(self, added: Mapping[str, int]) -> tuple[dict[str, int], int]:
        """Return the added partitions that are not forwarded, and the number of offsets not forwarded."""
        topic = self._settings.topics.queries
        first = self._partitions[topic]
        places = [TopicPartition(topic, first + number) for number in range(added.get(topic, 0))]
        if not places:
            return dict(added), 0
        ends: dict[int, int] = {}
        starts: dict[int, int] = {}
        for offsets, spec in ((ends, OffsetSpec.latest()), (starts, OffsetSpec.earliest())):
            futures = self._admin.list_offsets(
                dict.fromkeys(places, spec), isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=5
            )
            for place, future in futures.items():
                offsets[place.partition] = future.result(6).offset
        forwarded = self._forwarded(ends)
        unread = sum(max(0, end - max(starts[n], forwarded.get(n, 0))) for n, end in ends.items())
        left = {**added, topic: len(ends.keys() - forwarded.keys())}
        return {name: number for name, number in left.items() if number}, unread

    def _forwarded(self, partitions: Iterable[int]) -> dict[int, int]:
        """Offsets before which added partitions were forwarded; none where the broker does not say."""
        settings = self._settings
        try:
            offsets = read_group_offsets(
                reader_config(settings), forward_group(settings.app_id), settings.topics.queries, partitions
            )
        except KafkaException as error:
            self._forwarded_unknown.occurred(reason=repr(error)[:200])
            return {}
        self._forwarded_unknown.resolved()
        return offsets

    def _compare_ids(self, topics: Mapping[str, TopicDescription]) -> None:
        for name, topic in topics.items():
            identity = str(topic.topic_id)
            if self._ids.setdefault(name, identity) == identity:
                continue
            self._ids[name] = identity
            log.error("topic_made_anew", topic=name)
            if name in self._required:
                self._halt(f"topic {name}: was deleted and created again while this worker ran")


def deleted_offsets(settings: Settings, ledgers: Mapping[int, LedgerRecord]) -> dict[str, Deleted]:
    """Return records that were deleted unread by topic, from the ledgers."""
    topics = settings.topics
    deleted = {
        name: Deleted() for name in (topics.queries, topics.overflow, topics.outcomes, topics.returned)
    }
    for lane, record in ledgers.items():
        for source, (offsets, _, at) in record.deleted.items():
            own = topics.overflow if lane == settings.partitions else topics.queries
            name = {"outcomes": topics.outcomes, "returned": topics.returned}.get(source, own)
            deleted[name] = Deleted(deleted[name].offsets + int(offsets), max(deleted[name].at, at))
    return deleted
