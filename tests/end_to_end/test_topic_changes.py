"""Topics that change under a router: partitions added, records deleted unread, topics recreated.

Tests docs/operations.md, "More partitions" and "Deleted before they were read". Needs Apache Kafka.
"""

import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

import orjson
import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions

from streams.kafka.clients import producer_config
from streams.kafka.topics import TopicMismatch, create_topics, topic_specs
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.test_lost_topics import lose, refusal
from tests.end_to_end.worker_process import Worker, wait_for


def add_partitions(router: Router, topic: str, total: int) -> None:
    router.admin.create_partitions([NewPartitions(topic, total)])[topic].result(30)
    # The old producer would not see them for minutes.
    router.producer = Producer(producer_config(router.settings) | {"linger.ms": 5})


def delete_before(router: Router, topic: str, partition: int, offset: int) -> None:
    place = TopicPartition(topic, partition, offset)

    def deleted() -> bool:
        # an admin client finds the leader of a new partition only after it has asked for metadata
        router.admin.list_topics(topic, timeout=10)
        try:
            router.admin.delete_records([place])[place].result(30)
        except KafkaException:
            return False
        return True

    wait_for(deleted, 30, f"records of {topic}[{partition}] are deleted")


def get(worker: Worker, path: str) -> tuple[int, bytes]:
    """Request a path of a worker's HTTP port and return status and body."""
    (event,) = worker.events("web_listening")
    try:
        with urllib.request.urlopen(event["url"] + path, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def metric(worker: Worker, name: str) -> float:
    """Return the value of a metric, named with its labels."""
    lines = get(worker, "/metrics")[1].decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def deleted(router: Router, what: str = "input") -> int:
    return int(sum(record.deleted.get(what, [0])[0] for record in router.ledgers().values()))


def test_added_partitions_are_reported_and_lanes_continue(router: MakeRouter) -> None:
    stream = router(partitions=2, web_port=0, warmup="history")
    worker = stream.start(ready=True)
    stream.send(range(100))
    stream.all_landed()
    add_partitions(stream, stream.topics.queries, 4)
    add_partitions(stream, stream.topics.samples, 2)
    wait_for(lambda: len(list(worker.events("partitions_added"))) == 2, 30, "the worker has noticed")
    before = dict(stream.sent)
    stream.send(range(100, 120), partitions=[2, 3] * 10)
    stream.sent = before
    stream.send(range(120, 200), partitions=[0, 1] * 40)
    stream.all_landed()
    wait_for(lambda: metric(worker, "port_unread_offsets") == 20, 30, "their records are counted")
    assert metric(worker, f'port_added_partitions{{topic="{stream.topics.queries}"}}') == 2
    for path in ("/healthz", "/readyz"):
        status, body = get(worker, path)
        assert status == 200
        assert any("has 2 partitions more than the 2" in text for text in orjson.loads(body)["warnings"])

    # A second worker starts and partitions move; added ones could enter the assignment now.
    other = stream.start(ready=True)
    stream.send(range(200, 300))
    stream.all_landed()
    assert worker.stop() == 0
    stream.send(range(300, 400))
    stream.all_landed()
    for one in (worker, other):
        assert not one.logged("lane_not_opened")
        assert not one.logged("lane_reloads")
        lanes = {lane for event in one.events("lanes_assigned") for lane in event["lanes"]}
        without = {f"{stream.topics.queries}:2", f"{stream.topics.queries}:3", f"{stream.topics.samples}:1"}
        assert not lanes & without
    verdict = stream.check_at_rest()
    assert verdict.counts == {"missing": 20}
    assert all("is on an added partition, not forwarded" in text for text in verdict.examples["missing"])
    assert stream.check(complete=False).fine
    assert other.stop() == 0


def test_new_router_on_topics_with_too_many_partitions_does_not_start(router: MakeRouter) -> None:
    stream = router(partitions=2)
    add_partitions(stream, stream.topics.queries, 3)
    worker = stream.start()
    assert worker.wait(60) == 1
    assert "PORT_PARTITIONS" in worker.log.read_text()


@pytest.mark.parametrize("left", [0, 10])
def test_queries_deleted_unread_are_reported_as_a_loss(router: MakeRouter, left: int) -> None:
    stream = router(partitions=2, web_port=0, warmup="history")
    worker = stream.start(ready=True)
    stream.send([*range(20)], partitions=[0] * 20)
    stream.all_landed()
    assert worker.stop() == 0
    before = dict(stream.sent)
    stream.send([*range(20, 40)], partitions=[0] * 20)
    delete_before(stream, stream.topics.queries, 0, 40 - left)
    lost = stream.check(complete=False)
    assert lost.counts["deleted"] == 1
    assert f"{20 - left} offsets from 20 on" in lost.examples["deleted"][0]

    other = stream.start(ready=True)
    wait_for(lambda: deleted(stream) == 20 - left, 30, "the ledger counts them")
    (event,) = other.events("queries_deleted")
    assert (event["offsets"], event["first"], event["last"]) == (20 - left, 20, 39 - left)
    stream.sent = before | {place: i for place, i in stream.sent.items() if place[1] >= 40 - left}
    stream.send(range(40, 60))
    stream.all_landed()
    topic = stream.topics.queries
    assert metric(other, f'port_deleted_offsets{{topic="{topic}"}}') == 20 - left
    assert metric(other, f'port_deleted_timestamp_seconds{{topic="{topic}"}}') > 0
    warnings = orjson.loads(get(other, "/readyz")[1])["warnings"]
    assert any(f"{20 - left} offsets were deleted" in text for text in warnings)
    verdict = stream.check_at_rest()
    assert verdict.counts == {"deleted": 1}
    assert f"{20 - left} offsets" in verdict.examples["deleted"][0]
    # The loss is counted only once.
    assert other.stop() == 0
    again = stream.start(ready=True)
    stream.send(range(60, 70))
    stream.all_landed()
    assert deleted(stream) == 20 - left
    assert not again.logged("queries_deleted")
    assert again.stop() == 0


def test_queries_deleted_after_reading_are_no_loss(router: MakeRouter) -> None:
    stream = router(partitions=2, warmup="history")
    worker = stream.start(ready=True)
    stream.send(range(40))
    stream.all_landed()
    delete_before(stream, stream.topics.queries, 0, 20)
    delete_before(stream, stream.topics.queries, 1, 10)
    stream.send(range(40, 60))
    stream.all_landed()
    assert worker.stop() == 0
    other = stream.start(ready=True)
    stream.send(range(60, 80))
    stream.all_landed()
    assert deleted(stream) == 0
    assert not worker.logged("queries_deleted")
    assert not other.logged("queries_deleted")
    assert stream.check_at_rest().fine
    assert other.stop() == 0


def test_outcomes_deleted_unread_are_a_loss_and_later_ones_settle(router: MakeRouter) -> None:
    stream = router(partitions=1, warmup="history")
    worker = stream.start(ready=True)
    stream.send(range(20))
    stream.all_landed()
    assert worker.stop() == 0
    landings = stream.served()
    for landing in landings:
        stream.answer(landing)
    stream.producer.flush(30)
    delete_before(stream, stream.topics.outcomes, 0, 5)
    other = stream.start(ready=True)
    stream.settled(len(landings) - 5)
    (event,) = other.events("outcomes_deleted")
    assert (event["offsets"], event["first"], event["last"]) == (5, 0, 4)
    assert deleted(stream, "outcomes") == 5
    verdict = stream.check_at_rest()
    assert verdict.counts == {"deleted": 1}
    assert stream.topics.outcomes in verdict.examples["deleted"][0]
    assert other.stop() == 0


def test_queries_deleted_while_waiting_for_a_plan_are_a_loss(router: MakeRouter) -> None:
    stream = router(partitions=1, warmup_seconds=10)
    worker = stream.start(ready=True)
    stream.send(range(20))
    stream.ledgers_are(lambda ledgers: ledgers and ledgers[0].sampled == 20, "all are sampled, and wait")
    delete_before(stream, stream.topics.queries, 0, 12)
    stream.sent = {place: identity for place, identity in stream.sent.items() if place[1] >= 12}
    stream.all_landed()
    wait_for(lambda: deleted(stream) == 12, 30, "the ledger counts them")
    assert len(list(worker.events("queries_deleted"))) == 1
    assert stream.check_at_rest().counts == {"deleted": 1}
    assert worker.stop() == 0


@pytest.mark.parametrize("name", ["queries", "outcomes", "ledger"])
def test_topic_recreated_under_a_worker_stops_it(router: MakeRouter, name: str) -> None:
    stream = router(partitions=2, web_port=0, warmup="history")
    worker = stream.start(ready=True)
    stream.send(range(100))
    stream.all_landed()
    for landing in stream.served():
        stream.answer(landing)
    stream.settled(len(stream.served()))
    topic = getattr(stream.topics, name)
    lose(stream, topic)

    def stopped() -> bytes | None:
        if not worker.alive:
            return b"ended"
        with suppress(OSError):  # it may end at this moment
            status, body = get(worker, "/healthz")
            return body if status == 503 and worker.logged("lanes_halted") else None
        return None

    body = wait_for(stopped, 60, "the worker stops reading")
    if body != b"ended":
        failed: list[Any] = [check for check in orjson.loads(body)["checks"] if not check["ok"]]
        assert topic in failed[0]["detail"]
        before = len(stream.landed)
        stream.send(range(100, 120))
        assert not more_outputs(stream, before)
        if not worker.logged("worker_cannot_go_on"):
            assert worker.stop() == 0
    assert topic in refusal(stream)


def more_outputs(stream: Router, before: int) -> bool:
    """Return whether another output appears within 3 s."""
    try:
        stream.landed_at_least(before + 1, 3)
    except AssertionError:
        return False
    return True


def cleanup_policy(router: Router, topic: str) -> str | None:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    settings = router.admin.describe_configs([resource])[resource].result(30)
    return settings["cleanup.policy"].value


@pytest.mark.parametrize("name", ["queries", "outcomes", "reservations", "llm"])
def test_compacted_topic_is_rejected_if_every_record_counts(router: MakeRouter, name: str) -> None:
    stream = router(partitions=2)
    llm = stream.topics.llm(stream.catalogue.slugs[0])
    topic = llm if name == "llm" else getattr(stream.topics, name)
    entry = ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    stream.admin.incremental_alter_configs([resource])[resource].result(30)
    wait_for(lambda: cleanup_policy(stream, topic) == "compact", 30, "the broker applies the new setting")
    with pytest.raises(TopicMismatch, match=r"cleanup\.policy is compact and must be delete"):
        create_topics(stream.admin, topic_specs(stream.settings, stream.catalogue))
    worker = stream.start()
    assert worker.wait(60) == 1
    assert f"topic {topic}: cleanup.policy is compact and must be delete" in worker.log.read_text()


def test_router_without_changes_passes_the_audit(router: MakeRouter) -> None:
    stream = router(partitions=2, warmup="history")
    worker = stream.start(ready=True)
    stream.send(range(50))
    stream.all_landed()
    assert_whole(stream)
    assert worker.stop() == 0
