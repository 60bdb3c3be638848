from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import CommitFailedError, GroupAuthorizationFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from streams.config.log_throttling import RecurringProblem
from streams.lanes.faust_app import FetchThread

PLACE = TP("queries", 0)


class Consumer:
    """A consumer with one partition, whose commits may fail."""

    def __init__(self, error: Exception | None = None, assigned: bool = True) -> None:
        self.error, self.committed = error, {}  # type: ignore[var-annotated]
        self._assigned = {TopicPartition(*PLACE)} if assigned else set()

    def assignment(self) -> set[TopicPartition]:
        return self._assigned

    async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        if self.error is not None:
            raise self.error
        self.committed |= offsets


def thread_of(consumer: Consumer) -> Any:
    """A thread of which only what commits is there; what would end the worker is not."""
    problem = RecurringProblem("group_offsets_not_committed", "group_offsets_committed")
    return SimpleNamespace(_ensure_consumer=lambda: consumer, _not_committed=problem)


async def test_offsets_of_assigned_partitions_are_committed():
    consumer = Consumer()
    assert await FetchThread._commit(thread_of(consumer), {PLACE: 7, TP("queries", 1): 9})
    assert consumer.committed == {TopicPartition("queries", 0): OffsetAndMetadata(7, "")}


async def test_partitions_revoked_before_the_commit_do_not_end_the_worker():
    consumer = Consumer(IllegalStateError("No partitions assigned"), assigned=False)
    assert not await FetchThread._commit(thread_of(consumer), {PLACE: 7})


@pytest.mark.parametrize(
    "error",
    [
        IllegalStateError("Partition queries-0 is not assigned"),
        CommitFailedError("another text"),
        GroupAuthorizationFailedError("port"),
    ],
)
async def test_a_commit_that_fails_does_not_end_the_worker(error: Exception):
    assert not await FetchThread._commit(thread_of(Consumer(error)), {PLACE: 7})


@pytest.mark.parametrize(("offset", "past"), [(5, 9), (4, 4), (6, 6), (9, 9)])
def test_past_markers_skips_only_a_range_without_records(offset: int, past: int):
    thread: Any = SimpleNamespace(without_records={PLACE: (5, 9)})
    assert FetchThread.past_markers(thread, PLACE, offset) == past


@pytest.mark.parametrize(("known", "requests"), [(set(), 1), ({"queries"}, 1), ({"queries", "ledger"}, 0)])
def test_request_unknown_topics_asks_only_while_one_is_unknown(known: set[str], requests: int):
    """A broker that went away while a worker started: no partitions are assigned of unknown topics."""
    calls: list[None] = []
    client: Any = SimpleNamespace(
        _topics={"queries", "ledger"},
        cluster=SimpleNamespace(topics=lambda: known),
        force_metadata_update=lambda: calls.append(None),
    )
    FetchThread._request_unknown_topics(client)
    assert len(calls) == requests
