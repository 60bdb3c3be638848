"""Lanes of a worker on Kafka: former owners that died or froze in the middle of a round."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.config.settings import Settings
from streams.kafka import complete_reading, owned_lanes
from streams.kafka.alternating_producers import AlternatingProducers
from streams.kafka.bounded_clients import Consumer
from streams.kafka.clients import client_config, reader_config, transactional_config
from streams.kafka.group_membership import GroupMembership
from streams.kafka.owned_lanes import LastCommit, OwnedLanes, lane_topics
from streams.kafka.rounds import Rounds
from streams.kafka.transactions import FencedProducer

MakeWorker = Callable[[str], "LaneWorker"]


class LaneWorker:
    """A worker that is the only member of the group, with the lanes' topics of a router."""

    def __init__(self, settings: Settings, name: str, member: GroupMembership) -> None:
        self.settings = settings
        self.rounds = Rounds(
            f"{settings.app_id}-{name}", lambda: AlternatingProducers(transactional_config(settings, name))
        )
        self.rounds.assign(member, set())
        self.access = OwnedLanes(settings, self.rounds)

    def commit(self, lane: int, value: bytes, next_offset: int) -> None:
        """Open a lane, and commit a record."""
        with self.access.open_producer(f"lane-{lane}").transaction() as transaction:
            transaction.produce(self.settings.topics.ledger, value, partition=lane)
            transaction.commit(next_offset)

    def begin(self, lane: int, value: bytes, next_offset: int, *, send: bool) -> FencedProducer:
        """Begin a round as a worker does, and leave it open."""
        producer = self.rounds.producers().next()
        producer.begin()
        producer.produce(self.settings.topics.ledger, value, partition=lane)
        producer._producer.flush(10)
        if send:
            membership = self.rounds._membership
            assert membership is not None
            offset = TopicPartition(self.settings.topics.queries, lane, next_offset)
            producer.send_offsets([offset], membership.encode())
        return producer

    def records(self, lane: int) -> list[bytes]:
        return [message.value() or b"" for message in self.access.read(self.settings.topics.ledger, lane)]


def join(settings: Settings) -> tuple[Consumer, GroupMembership]:
    """Join the group; the membership of librdkafka's consumer has the format of a worker's."""
    consumer = Consumer(reader_config(settings) | {"group.id": settings.app_id, "session.timeout.ms": 30000})
    consumer.subscribe([settings.topics.queries])
    while not consumer.assignment():
        consumer.poll(0.1)
    _, generation, rest = (data := consumer.consumer_group_metadata())[:7], data[7:11], data[11:]
    group, member, _ = rest.split(b"\0", 2)
    membership = GroupMembership(group.decode(), int.from_bytes(generation, "little"), member.decode())
    assert membership.encode() == data
    return consumer, membership


@pytest.fixture
def make_worker(bootstrap_servers: str, unique: Callable[[str], str]) -> Iterator[MakeWorker]:
    settings = Settings(
        bootstrap_servers=bootstrap_servers,
        topic_prefix=f"{unique('owned')}.",
        app_id=unique("owned"),
        partitions=2,
    )
    topics = settings.topics
    names = [topics.queries, topics.ledger, topics.reservations, topics.outcomes]
    admin = AdminClient(client_config(settings))
    for future in admin.create_topics([NewTopic(name, 3, 1) for name in names]).values():
        future.result(30)
    consumer, member = join(settings)
    workers: list[LaneWorker] = []

    def make(name: str) -> LaneWorker:
        workers.append(LaneWorker(settings, name, member))
        return workers[-1]

    yield make
    for worker in workers:
        worker.access.close()
    consumer.close()
    admin.delete_topics(names)


@pytest.mark.parametrize("rounds_before", [0, 1], ids=["one producer", "the other"])
def test_next_owner_ends_the_round_of_a_dead_one_and_reads_the_last_record(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch, rounds_before: int
) -> None:
    monkeypatch.setattr(owned_lanes, "BLOCKED_SECONDS", 0.3)
    dead, heir = make_worker("dead"), make_worker("heir")
    for _ in range(rounds_before):
        dead.commit(1, b"elsewhere", 1)
    dead.commit(0, b"first", 1)
    left_open = dead.begin(0, b"second", 2, send=True)
    producer = heir.access.open_producer("lane-0")
    assert heir.records(0) == [b"first"]
    with pytest.raises(KafkaException):
        left_open.commit()
    with producer.transaction() as transaction:
        transaction.produce(heir.settings.topics.ledger, b"third", partition=0)
        transaction.commit(3)
    assert heir.records(0) == [b"first", b"third"]


def test_owner_that_dies_before_its_first_commit_is_known_to_the_next(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_lanes, "BLOCKED_SECONDS", 0.3)
    dead, heir = make_worker("dead"), make_worker("heir")
    dead.access.open_producer("lane-0")
    dead.begin(0, b"first", 1, send=True)
    heir.access.open_producer("lane-0")
    assert heir.records(0) == []


def test_record_hidden_behind_the_open_round_of_an_older_owner_is_read(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older owner froze before it sent its offsets, so they do not hold up those of later owners."""
    frozen, second, third = make_worker("frozen"), make_worker("second"), make_worker("third")
    frozen.commit(0, b"first", 1)
    left_open = frozen.begin(0, b"never", 2, send=False)
    with second.access.open_producer("lane-0").transaction() as transaction:
        transaction.produce(second.settings.topics.ledger, b"second", partition=0)
        transaction.commit(2)
    third.access.open_producer("lane-0")
    with monkeypatch.context() as patch:
        patch.setattr(complete_reading, "GIVE_UP_SECONDS", 0.3)
        with pytest.raises(KafkaException, match="read to 2, but not to"):
            third.records(0)
    left_open.close()
    assert third.records(0) == [b"first", b"second"]


def test_member_of_an_old_generation_or_an_unknown_one_cannot_commit(make_worker: MakeWorker) -> None:
    worker = make_worker("worker")
    worker.commit(0, b"first", 1)
    member = worker.rounds._membership
    assert member is not None
    for wrong, error in (
        (GroupMembership(member.group, member.generation - 1, member.member), KafkaError.ILLEGAL_GENERATION),
        (GroupMembership(member.group, member.generation, "another"), KafkaError.UNKNOWN_MEMBER_ID),
    ):
        worker.rounds.assign(wrong, set())
        with pytest.raises(KafkaException) as raised:
            worker.commit(1, b"wrong", 1)
        assert raised.value.args[0].code() == error
    worker.rounds.assign(member, set())
    worker.commit(1, b"right", 1)
    assert worker.records(1) == [b"right"]


def test_last_commit_of_foreign_metadata_is_unknown():
    assert LastCommit.of("d4b64d628970a496 port-worker-1") == LastCommit("d4b64d628970a496", "port-worker-1")
    assert LastCommit.of("- port-worker-1") == LastCommit("", "port-worker-1")
    for metadata in ("", None, "by-hand"):
        assert LastCommit.of(metadata) == LastCommit()


def test_lane_topics_name_every_lane_and_the_planner():
    settings = Settings(partitions=2)
    lanes = lane_topics(settings)
    assert set(lanes) == {"lane-0", "lane-1", "lane-2", "planner"}
    assert lanes["lane-2"].input == (settings.topics.overflow, 0)
    assert lanes["lane-2"].record == (settings.topics.overflow_ledger, 0)
    assert (settings.topics.reservations, 2) in lanes["lane-2"].others
    assert lanes["planner"].record == (settings.topics.plans, 0)
