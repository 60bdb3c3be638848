"""Transaction markers and aborted records of clients are no queries: not waiting ones, not lost ones."""

import time

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, TopicPartition

from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.group_offsets import read_group_offsets
from streams.kafka.scanner import Scanner
from streams.kafka.transactions import FencedProducer
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.test_topic_changes import delete_before, deleted
from tests.end_to_end.worker_process import wait_for


def send_transaction(stream: Router, rows: range, *, aborted: bool = False) -> None:
    """Send queries to partition 0 as `producers.batch` does, in a transaction."""
    producer = FencedProducer(transactional_config(stream.settings, "client"))
    producer.begin()
    for row in rows:
        identity, value = stream.query(row)

        def sent(offset: int, identity: str = identity) -> None:
            if not aborted:
                stream.sent[0, offset] = identity

        producer.produce(stream.topics.queries, value, partition=0, on_offset=sent)
    if aborted:
        producer._producer.flush(30)
    else:
        producer.commit()
    producer.close()


def group_offset(stream: Router) -> int:
    config = reader_config(stream.settings)
    return read_group_offsets(config, stream.name, stream.topics.queries, [0]).get(0, 0)


def test_group_offset_of_an_idle_router_is_the_end_of_the_log(router: MakeRouter) -> None:
    stream = router(partitions=1, warmup="history")
    worker = stream.start(ready=True)
    send_transaction(stream, range(5))
    stream.all_landed()
    wait_for(lambda: group_offset(stream) == 6, 30, "five queries and a marker are passed")
    send_transaction(stream, range(5, 8), aborted=True)
    wait_for(lambda: group_offset(stream) == 10, 30, "aborted queries and their marker are passed")
    stream.send(range(8, 12))
    stream.all_landed()
    wait_for(lambda: group_offset(stream) == 14, 30, "the group follows queries, too")
    assert stream.ledgers()[0].next == 14
    assert worker.stop() == 0


def test_deleted_transaction_markers_are_no_loss_for_a_worker_that_restarts(router: MakeRouter) -> None:
    stream = router(partitions=1, warmup="history")
    worker = stream.start(ready=True)
    send_transaction(stream, range(5))
    send_transaction(stream, range(5, 8), aborted=True)
    stream.all_landed()
    wait_for(lambda: group_offset(stream) == 10, 30, "everything is passed")
    assert worker.stop() == 0
    delete_before(stream, stream.topics.queries, 0, 10)
    assert stream.check(complete=False).fine

    other = stream.start(ready=True)
    wait_for(lambda: stream.ledgers()[0].next == 10, 30, "the ledger goes on where the log starts")
    stream.send(range(8, 20))
    stream.all_landed()
    assert deleted(stream) == 0
    assert not other.logged("queries_deleted")
    verdict = stream.check_at_rest()
    assert verdict.fine, verdict.text()
    assert other.stop() == 0


def test_queries_before_a_deleted_marker_are_a_loss(router: MakeRouter) -> None:
    stream = router(partitions=1, warmup="history")
    worker = stream.start(ready=True)
    stream.send(range(4))
    stream.all_landed()
    wait_for(lambda: group_offset(stream) == 4, 30, "four queries are passed")
    assert worker.stop() == 0
    before = dict(stream.sent)
    send_transaction(stream, range(4, 9))
    stream.sent = before
    delete_before(stream, stream.topics.queries, 0, 10)
    other = stream.start(ready=True)
    wait_for(lambda: deleted(stream) == 6, 30, "five queries and a marker are counted")
    assert len(list(other.events("queries_deleted"))) == 1
    assert other.stop() == 0


def test_queries_with_timestamps_in_seconds_are_kept_as_long_as_others(router: MakeRouter) -> None:
    stream = router(partitions=1, warmup="history")
    now = time.time()
    for row in range(10):
        identity, value = stream.query(row)
        # a mistake of many clients: Kafka takes it for January 1970, which is before any retention
        stream.producer.produce(stream.topics.queries, value, partition=0, timestamp=int(now))
        stream.sent[0, row] = identity
    stream.producer.flush(30)
    with Scanner(reader_config(stream.settings)) as scanner:
        stamps = [m.timestamp() for m in scanner.read([TopicPartition(stream.topics.queries, 0, 0)])]
    assert {kind for kind, _ in stamps} == {TIMESTAMP_LOG_APPEND_TIME}
    assert all(abs(at / 1000 - now) < 60 for _, at in stamps)
    worker = stream.start(ready=True)
    stream.all_landed()
    assert deleted(stream) == 0
    assert worker.stop() == 0
