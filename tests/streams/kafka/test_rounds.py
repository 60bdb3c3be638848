"""Rounds without Kafka: batches that share a transaction, failures, and lanes that a worker has lost."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka import rounds as rounds_module
from streams.kafka.group_membership import GroupMembership, MembershipFormatError, check_membership_format
from streams.kafka.rounds import LaneProducer, Rounds, record_digest

MEMBER = GroupMembership("group", 3, "member")


class RoundProducer:
    """A worker's producer that keeps the transactions in memory."""

    def __init__(self) -> None:
        self.committed: list[list[bytes]] = []
        self.offsets: list[list[TopicPartition]] = []
        self.memberships: list[bytes] = []
        self.fail: Callable[[], None] = lambda: None
        self.closes = True
        self._open: list[bytes] = []

    def next(self) -> "RoundProducer":
        return self

    def begin(self) -> None:
        self._open = []

    def produce(self, topic: str, value: bytes, *rest: object) -> None:
        self._open.append(value)

    def send_offsets(self, offsets: list[TopicPartition], membership: bytes) -> None:
        self.fail()
        self.offsets.append(offsets)
        self.memberships.append(membership)

    def commit(self) -> None:
        self.committed.append(self._open)

    def close(self) -> bool:
        return self.closes


class Cluster:
    """Rounds with a producer in memory, and some open lanes."""

    def __init__(self, lanes: int = 3) -> None:
        self.producers: list[RoundProducer] = []
        self.rounds = Rounds("worker", self._open)  # type: ignore[arg-type]
        self.rounds.assign(MEMBER, set())
        self.lanes = [self.rounds.open_lane(("queries", number), "ledger", "") for number in range(lanes)]

    def _open(self) -> RoundProducer:
        self.producers.append(RoundProducer())
        return self.producers[-1]

    @property
    def producer(self) -> RoundProducer:
        self.rounds.producers()
        return self.producers[-1]


def commit(lane: LaneProducer, value: bytes, next_offset: int = 7) -> None:
    with lane.transaction() as transaction:
        transaction.produce("ledger", value)
        transaction.commit(next_offset)


def fails(error: int = KafkaError.ILLEGAL_GENERATION) -> Callable[[], None]:
    def fail() -> None:
        raise KafkaException(KafkaError(error, "injected"))

    return fail


def together(cluster: Cluster, numbers: list[int]) -> list[BaseException | None]:
    """Let lanes commit while a round of lane 0 is in flight, so that they share the next; return errors."""
    entered, release = threading.Event(), threading.Event()
    fail = cluster.producer.fail

    def hold() -> None:
        entered.set()
        assert release.wait(10)
        cluster.producer.fail = fail

    cluster.producer.fail = hold
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(commit, cluster.lanes[0], b"first")
        assert entered.wait(10)
        futures = [pool.submit(commit, cluster.lanes[number], b"%d" % number) for number in numbers]
        while len(cluster.rounds._waiting) < len(numbers):
            pass
        release.set()
        first.result(10)
        return [future.exception(10) for future in futures]


def test_round_takes_no_lane_with_which_a_partition_has_too_many_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rounds_module, "MAX_PARTITION_BYTES", 2)
    cluster = Cluster(5)
    assert together(cluster, [1, 2, 3]) == [None] * 3
    first, *others = cluster.producer.committed
    assert first == [b"first"]
    assert sorted(map(len, others)) == [1, 2]


def test_commit_sends_messages_offset_and_membership():
    cluster = Cluster()
    commit(cluster.lanes[1], b"record", 12)
    assert cluster.producer.committed == [[b"record"]]
    ((offset,),) = cluster.producer.offsets
    assert (offset.topic, offset.partition, offset.offset) == ("queries", 1, 12)
    assert offset.metadata == f"{record_digest(b'record')} worker"
    assert cluster.producer.memberships == [MEMBER.encode()]


def test_commit_without_a_record_keeps_the_digest_of_the_last():
    cluster = Cluster()
    commit(cluster.lanes[0], b"record")
    with cluster.lanes[0].transaction() as transaction:
        transaction.produce("other", b"bill")
        transaction.commit(7)
    assert [offset.metadata for (offset,) in cluster.producer.offsets] == [
        f"{record_digest(b'record')} worker"
    ] * 2


def test_transaction_block_that_raises_commits_nothing():
    cluster = Cluster()

    def produce_and_fail() -> None:
        with cluster.lanes[0].transaction() as transaction:
            transaction.produce("ledger", b"record")
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        produce_and_fail()
    assert cluster.producer.committed == []


def test_lanes_ready_during_a_round_share_the_next():
    cluster = Cluster()
    assert together(cluster, [1, 2]) == [None, None]
    assert [sorted(values) for values in cluster.producer.committed] == [[b"first"], [b"1", b"2"]]
    assert sorted(offset.partition for offset in cluster.producer.offsets[1]) == [1, 2]


def test_failed_round_raises_in_each_lane_and_each_tries_alone_next():
    cluster = Cluster()
    cluster.producer.fail = fails()
    errors = together(cluster, [1, 2])
    assert [type(error) for error in errors] == [KafkaException, KafkaException]
    assert errors[0] is not errors[1]
    cluster.producer.fail = lambda: None
    together(cluster, [1, 2])
    assert [len(values) for values in cluster.producer.committed] == [1, 1, 1, 1], "first, first, 1, 2"
    together(cluster, [1, 2])
    assert len(cluster.producer.committed[-1]) == 2, "after a success they share again"


@pytest.mark.parametrize("closes", [True, False])
def test_producer_is_replaced_only_if_it_cannot_roll_back(closes: bool):
    cluster = Cluster()
    cluster.producer.fail, cluster.producer.closes = fails(), closes
    with pytest.raises(KafkaException):
        commit(cluster.lanes[0], b"record")
    cluster.producer.fail = lambda: None
    commit(cluster.lanes[0], b"record")
    assert len(cluster.producers) == (1 if closes else 2)
    assert cluster.producer.committed == [[b"record"]]


def test_error_that_is_not_kafkas_is_raised_in_the_lane():
    cluster = Cluster()

    def broken() -> None:
        raise BufferError("queue full")

    cluster.producer.fail = broken
    with pytest.raises(BufferError, match="queue full"):
        commit(cluster.lanes[0], b"record")


def test_lost_lane_cannot_commit_and_kept_lanes_can():
    cluster = Cluster()
    assert cluster.rounds.assign(GroupMembership("group", 4, "member"), {("queries", 0)})
    commit(cluster.lanes[0], b"kept")
    with pytest.raises(KafkaException, match="lost this lane"):
        commit(cluster.lanes[1], b"lost")
    assert cluster.producer.committed == [[b"kept"]]


@pytest.mark.parametrize(("generation", "member"), [(5, "member"), (4, "another"), (3, "member")])
def test_lanes_are_lost_if_another_generation_may_have_owned_them(generation: int, member: str):
    cluster = Cluster()
    places = {("queries", number) for number in range(3)}
    assert not cluster.rounds.assign(GroupMembership("group", generation, member), places)
    with pytest.raises(KafkaException, match="lost this lane"):
        commit(cluster.lanes[0], b"record")


def test_lane_opened_again_replaces_the_former_producer():
    cluster = Cluster()
    again = cluster.rounds.open_lane(("queries", 0), "ledger", "")
    with pytest.raises(KafkaException, match="lost this lane"):
        commit(cluster.lanes[0], b"old")
    commit(again, b"new")
    assert cluster.producer.committed == [[b"new"]]


def test_membership_has_the_format_of_the_installed_client(monkeypatch: pytest.MonkeyPatch):
    config = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    check_membership_format(config)
    monkeypatch.setattr(GroupMembership, "encode", lambda self: b"CGMDv3:")
    with pytest.raises(MembershipFormatError, match=r"constraints\.txt"):
        check_membership_format(config)


def test_membership_encodes_generation_member_and_instance():
    assert GroupMembership("g", 258, "m").encode() == b"CGMDv2:\x02\x01\x00\x00g\x00m\x00\x01"
    assert GroupMembership("g", 1, "m", "i").encode() == b"CGMDv2:\x01\x00\x00\x00g\x00m\x00\x00i\x00"
