"""Queries on partitions that were added to `queries`, and `topics forward`. Needs Apache Kafka."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.group_offsets import forward_group, read_group_offsets
from streams.kafka.scanner import Scanner
from streams.kafka.transactions import FencedProducer
from streams.messages.headers import headers_of
from streams.operations import partition_forwarding
from streams.operations.partition_forwarding import PartitionForwarder
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.test_topic_changes import add_partitions, delete_before, get, metric
from tests.end_to_end.worker_process import ROOT, wait_for

Content = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


def contents(stream: Router, partitions: list[int]) -> list[Content]:
    """Value, key and headers of every record on partitions of the queries."""
    places = [TopicPartition(stream.topics.queries, number, 0) for number in partitions]
    with Scanner(reader_config(stream.settings)) as scanner:
        return [(m.value(), m.key(), tuple(headers_of(m))) for m in scanner.read(places)]


def offsets(stream: Router) -> dict[int, int]:
    name = forward_group(stream.name)
    return read_group_offsets(reader_config(stream.settings), name, stream.topics.queries, [2, 3])


def send_added(stream: Router, count: int, tag: str) -> None:
    """Put queries on partitions 2 and 3, which were added, and do not expect them to be routed."""
    before = dict(stream.sent)
    stream.send(range(count), partitions=[2, 3] * (count // 2), tag=tag)
    stream.sent = before


def program(stream: Router, *arguments: str) -> "subprocess.Popen[str]":
    """Start `python -m streams topics forward`."""
    return subprocess.Popen(
        [sys.executable, "-m", "streams", "topics", "forward", *arguments],
        env={**os.environ, **stream.variables, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def stream(router: MakeRouter) -> Router:
    """A router of two partitions, to whose topic two more were added."""
    stream = router(partitions=2, web_port=0, warmup="history")
    stream.start(ready=True)
    stream.send(range(20))
    stream.all_landed()
    add_partitions(stream, stream.topics.queries, 4)
    return stream


def test_forwarded_queries_are_routed_once_and_no_longer_reported(stream: Router) -> None:
    (worker,) = stream.workers
    headers = [("trace", b"\x00\xff"), ("trace", None), ("empty", b"")]
    before = dict(stream.sent)
    stream.send_raw(*stream.query(1, "odd"), key=b"\xff key", headers=headers, partition=3)
    stream.sent = before
    send_added(stream, 20, "late-")
    wait_for(lambda: metric(worker, "port_unread_offsets") == 21, 30, "the worker counts them")
    assert stream.check(complete=False).unread == 21

    first = program(stream)
    printed, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert f"21 queries forwarded from 2 added partitions of {stream.topics.queries}" in printed
    added = Counter(contents(stream, [2, 3]))
    assert Counter(contents(stream, [0, 1])) >= added
    assert added.total() == 21
    assert any(key == b"\xff key" and added_headers == tuple(headers) for _, key, added_headers in added)
    stream.landed_at_least(41)
    wait_for(lambda: metric(worker, "port_unread_offsets") == 0, 30, "nothing is unread")
    status, body = get(worker, "/healthz")
    assert (status, b"added" in body, b"more than" in body) == (200, False, False)
    verdict = stream.check_at_rest()
    assert verdict.fine, verdict.text()
    assert (verdict.queries, verdict.forwarded, verdict.unread) == (41, 21, 0)

    again = program(stream)
    assert "0 queries forwarded" in again.communicate(timeout=60)[0]
    assert stream.check_at_rest().queries == 41


@pytest.mark.parametrize("batch", [7, 100])
def test_a_killed_forwarder_forwards_each_query_once(
    stream: Router, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(partition_forwarding, "BATCH_RECORDS_MAX", batch)
    send_added(stream, 200, "late-")

    class Killed(BaseException):
        pass

    class Dying(FencedProducer):
        """Dies in its second transaction, which stays open."""

        commits = 0

        def commit(self) -> None:
            Dying.commits += 1
            if Dying.commits >= 2:
                raise Killed
            super().commit()

        def close(self) -> None:
            """Leave the transaction open, as a killed process does."""

    with monkeypatch.context() as patch:
        patch.setattr(partition_forwarding, "FencedProducer", Dying)
        with pytest.raises(Killed):
            PartitionForwarder(stream.settings, 2).run()
    assert PartitionForwarder(stream.settings, 2).run().forwarded > 0
    stream.landed_at_least(220)
    added = Counter(contents(stream, [2, 3]))
    copies = Counter(content for content in contents(stream, [0, 1]) if content in added)
    assert copies == added
    assert max(copies.values()) == 1
    verdict = stream.check_at_rest()
    assert verdict.fine, verdict.text()
    assert verdict.forwarded == 200


def test_a_process_killed_while_it_follows_forwards_each_query_once(stream: Router) -> None:
    running = program(stream, "--follow")
    try:
        for round_number in range(3):
            send_added(stream, 100, f"r{round_number}-")
            wait_for(lambda: sum(offsets(stream).values()) > 0, 60, "it forwards")
            os.kill(running.pid, signal.SIGKILL)
            running.wait(30)
            running = program(stream, "--follow")
        wait_for(lambda: sum(offsets(stream).values()) == 300, 60, "all are forwarded")
        stream.landed_at_least(320)
        verdict = stream.check_at_rest()
        assert verdict.fine, verdict.text()
        assert (verdict.queries, verdict.forwarded) == (320, 300)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.communicate()


def test_a_second_forwarder_fences_the_first(stream: Router) -> None:
    first = program(stream, "--follow")
    try:
        send_added(stream, 10, "a-")
        wait_for(lambda: sum(offsets(stream).values()) == 10, 60, "the first forwards")
        second = program(stream)
        assert second.wait(60) == 0
        send_added(stream, 10, "b-")
        _, errors = first.communicate(timeout=60)
        assert first.returncode == 1
        assert "another run has begun" in errors
        assert program(stream).communicate(timeout=60)[0].startswith("10 queries forwarded")
        assert stream.check_at_rest().forwarded == 20
    finally:
        first.kill()


def test_transaction_markers_on_added_partitions_are_not_reported_as_unread(stream: Router) -> None:
    (worker,) = stream.workers
    producer = FencedProducer(transactional_config(stream.settings, "client"))
    producer.begin()
    for number in range(4):
        identity, value = stream.query(number, f"t{number}")
        producer.produce(stream.topics.queries, value, identity.encode(), partition=2)
    producer.commit()
    wait_for(lambda: metric(worker, "port_unread_offsets") == 5, 30, "the worker has noticed")
    assert PartitionForwarder(stream.settings, 2).run().forwarded == 4
    assert offsets(stream) == {2: 5, 3: 0}
    wait_for(lambda: metric(worker, "port_unread_offsets") == 0, 30, "markers are no queries")
    producer.close()


def test_queries_deleted_before_they_were_forwarded_are_reported(stream: Router) -> None:
    send_added(stream, 20, "late-")
    delete_before(stream, stream.topics.queries, 2, 4)
    result = PartitionForwarder(stream.settings, 2).run()
    assert (result.forwarded, result.deleted) == (16, 4)


def test_a_partition_that_ends_before_the_forwarded_offset_is_refused(stream: Router) -> None:
    forwarder = PartitionForwarder(stream.settings, 2)
    producer = FencedProducer(transactional_config(stream.settings, "forward"))
    consumer = Consumer(reader_config(stream.settings, forward_group(stream.name)))
    producer.begin()
    place = TopicPartition(stream.topics.queries, 2, 50)
    producer.send_offsets([place], consumer.consumer_group_metadata())
    producer.commit()
    consumer.close()
    with pytest.raises(ValueError, match="created again or has lost records"):
        forwarder.run()


def test_forward_without_added_partitions_or_a_plan(router: MakeRouter) -> None:
    stream = router(partitions=2, warmup="history")
    process = program(stream)
    assert "has no plan" in process.communicate(timeout=60)[1]
    assert process.returncode == 1
    stream.start(ready=True)
    wait_for(stream.plan, 60, "there is a plan")
    process = program(stream)
    assert "no added partitions: nothing to forward" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
