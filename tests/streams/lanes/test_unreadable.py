"""Partitions that cannot be read rest between attempts, and are reported at first and when it is over."""

from structlog.testing import capture_logs

from streams.lanes.unreadable import RETRY_SECONDS, Unreadable, UnreadablePartitions

PLACE, OTHER = ("queries", 3), ("queries", 0)
DAMAGED = Unreadable(40, 44, "CorruptRecordException()")


def test_rests_unreadable_partition_pauses_between_attempts():
    now = [100.0]
    partitions = UnreadablePartitions(lambda: now[0])
    with capture_logs() as lines:
        for _ in range(3):
            partitions.failed(PLACE, DAMAGED)
            assert partitions.is_backing_off(PLACE)
            assert not partitions.is_backing_off(OTHER)
            now[0] += RETRY_SECONDS
            assert not partitions.is_backing_off(PLACE), "it is tried again"
            assert PLACE in partitions, "it still cannot be read"
        assert partitions.snapshot() == {PLACE: DAMAGED}
        partitions.succeeded(PLACE)
        partitions.succeeded(OTHER)
    assert partitions.snapshot() == {}
    assert [line["event"] for line in lines] == ["partition_unreadable", "partition_readable"]
    event = lines[0]
    assert (event["topic"], event["partition"], event["offset"], event["end"]) == ("queries", 3, 40, 44)
    assert "before offset 44" in event["fix"]


def test_failed_repeated_problem_is_logged_every_half_minute():
    now = [100.0]
    partitions = UnreadablePartitions(lambda: now[0])
    with capture_logs() as lines:
        for _ in range(13):
            partitions.failed(PLACE, DAMAGED)
            now[0] += RETRY_SECONDS
    assert len(lines) == 5


def test_forget_drops_partitions_of_other_workers():
    partitions = UnreadablePartitions(lambda: 0.0)
    partitions.failed(PLACE, DAMAGED)
    with capture_logs() as lines:
        partitions.forget([PLACE, OTHER])
        partitions.succeeded(PLACE)
    assert not partitions.is_backing_off(PLACE)
    assert (partitions.snapshot(), lines) == ({}, [])
