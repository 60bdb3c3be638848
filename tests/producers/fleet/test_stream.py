"""Fleet workers on Kafka that stop, die or rebalance: each query is answered and settled once."""

import signal

import httpx2
import orjson
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.broker.ports import free_ports
from producers.fleet.stream import Finished, FleetStream
from streams.config.settings import Settings
from streams.kafka.clients import transactional_config
from streams.kafka.transactions import FencedProducer
from tests.producers.fleet.chat_server import (
    ChatServer,
)
from tests.producers.fleet.fleet_process import DEADLINE, fleet, group_members, wait_until
from tests.producers.fleet.routed_topic import ANSWER_USD, RoutedTopic, assert_settled_once, process


def test_stream_workers_killed_or_frozen_others_answer_their_queries(
    settings: Settings, stream: RoutedTopic, server: ChatServer
):
    quick, slow = [f"quick {i}" for i in range(12)], [f"held {i}" for i in range(4)]
    server.held.update(slow)

    with process(server) as killed, process(server) as frozen:
        wait_until(lambda: group_members(settings) == [1, 1], "each has a partition")
        # slow answers first: those after them are committed all the same
        stream.put(*slow[:2], *quick, *slow[2:])
        stream.wait_for_answers(len(quick))
        wait_until(lambda: all(server.asked[prompt] for prompt in slow), "all are in flight")
        killed.kill()
        frozen.send_signal(signal.SIGSTOP)
        server.hold_all = False
        with fleet(settings, server):
            wait_until(lambda: group_members(settings) == [2], "another has taken over")
            server.release()
            stream.wait_for_answers(len(quick) + len(slow))
            # it wakes up with answers to what is not its own any more
            frozen.send_signal(signal.SIGCONT)
            wait_until(lambda: group_members(settings) == [1, 1], "it is a member again")
            stream.put("after", "that")
            stream.wait_for_answers(len(quick) + len(slow) + 2)
            frozen.terminate()
            assert frozen.wait(DEADLINE) == 0

    assert_settled_once(stream, [*quick, *slow, "after", "that"])
    assert {server.asked[prompt] for prompt in [*quick, "after", "that"]} == {1}
    assert {server.asked[prompt] for prompt in slow} == {2}


def test_stream_worker_stopped_finishes_queries_in_flight_at_current_prices(
    settings: Settings, stream: RoutedTopic, server: ChatServer
):
    stream.put("before")
    with process(server, "--concurrency", "2") as worker:
        costs = [stream.wait_for_answers(1)[0]["cost"]]
        stream.reprice(input_price=4.0, output_price=20.0)
        prompts = ["before"]
        while costs[-1] == ANSWER_USD:
            prompts.append(f"then {len(prompts)}")
            stream.put(prompts[-1])
            costs = sorted(answer["cost"] for answer in stream.wait_for_answers(len(prompts)))
        server.hold_all = True
        stream.put("one", "two")
        wait_until(lambda: server.asked["one"] + server.asked["two"] == 2, "both are in flight")
        stream.put("not any more")
        worker.send_signal(signal.SIGTERM)
        server.release()
        assert worker.wait(DEADLINE) == 0

    assert_settled_once(stream, [*prompts, "one", "two"])
    assert server.asked["not any more"] == 0
    by_id = {answer["id"]: answer["cost"] for answer in stream.answers()}
    assert (by_id["q-before"], by_id["q-one"]) == (ANSWER_USD, 2 * ANSWER_USD)


def test_stream_rebalance_asks_no_query_twice(settings: Settings, stream: RoutedTopic, server: ChatServer):
    prompts = [f"p{i}" for i in range(40)]
    server.held.update(prompts[:20:5])
    stream.put(*prompts[:20])
    with fleet(settings, server, request_seconds=DEADLINE):
        stream.wait_for_answers(16)
        wait_until(lambda: server.asked.total() == 20, "four are in flight")
        with fleet(settings, server):
            # the first has four in flight, and keeps its partitions until they are answered
            wait_until(lambda: not group_members(settings), "the second joins")
            server.release()
            wait_until(lambda: group_members(settings) == [1, 1], "each has a partition")
            stream.put(*prompts[20:])
            stream.wait_for_answers(40)

    assert_settled_once(stream, prompts)
    assert set(server.asked.values()) == {1}


def test_stream_commit_result_unknown_writes_each_answer_once(
    settings: Settings, stream: RoutedTopic, server: ChatServer, monkeypatch: pytest.MonkeyPatch
):
    commit, fates = FencedProducer.commit, ["went through", "did not", "fine"]

    def flaky(self: FencedProducer) -> None:
        fate = fates.pop(0) if fates else "fine"
        if fate != "did not":
            commit(self)
        if fate != "fine":
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, fate))

    monkeypatch.setattr(FencedProducer, "commit", flaky)
    with fleet(settings, server):
        for prompt in ("first", "second", "third"):
            stream.put(prompt)
            wait_until(lambda prompt=prompt: server.answered[prompt] == 1, f"{prompt} is asked")
        stream.wait_for_answers(3)

    assert fates == []
    assert_settled_once(stream, ["first", "second", "third"])
    assert set(server.asked.values()) == {1}


def test_stream_ends_within_the_call_that_assigned_partitions_are_noticed(
    settings: Settings, stream: RoutedTopic
):
    # a drain stops at the ends: if one were missed, it would wait for a query that need not come
    stream.put("one", "two", "three")
    reading = FleetStream(
        settings, settings.topics.llm("vendor-llm"), settings.app_id, "reader", drain=no_op, drop=no_op
    )
    try:
        messages: list[Message] = []
        while len(messages) < 3:
            read = reading.poll(100, DEADLINE)
            assert read, "a query is missing"
            messages += read
        for message in messages:
            reading.finish(Finished(message.partition(), message.offset(), ()))
        wait_until(lambda: not reading.poll(100, 0.1), "all is read")
        assert not reading.at_end, "nothing is committed"
        assert reading.commit()
        assert reading.at_end
    finally:
        reading.close()


def no_op(partitions: set[int]) -> None:
    """Ignore partitions: nothing is in flight."""


def test_stream_idle_group_lag_is_zero_and_health_is_served(
    settings: Settings, stream: RoutedTopic, server: ChatServer
) -> None:
    topic = settings.topics.llm("vendor-llm")
    port = free_ports(1)[0]
    with process(server, "--health-port", str(port)) as worker:
        stream.put("plain")
        stream.wait_for_answers(1)
        # as the router writes: the topic ends with markers, which are no messages
        producer = FencedProducer(transactional_config(settings, "lane-0"))
        for prompt in ("committed", "aborted"):
            producer.begin()
            routing = {"model": "vendor/llm", "cost": 0.5, "partition": 0, "offset": 7}
            value = orjson.dumps({"id": f"q-{prompt}", "prompt": prompt, "routing": routing})
            producer.produce(topic, value, partition=0)
            producer.commit() if prompt == "committed" else producer.close()
        stream.wait_for_answers(2)
        wait_until(lambda: lag(settings, topic) == 0, "nothing is behind")
        assert httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        metrics = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'port_fleet_queries_total{model="vendor/llm",result="answered"} 2.0' in metrics
        assert 'port_fleet_requests_total{model="vendor/llm",status="200"} 2.0' in metrics
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(DEADLINE) == 0
    assert server.asked["aborted"] == 0


def lag(settings: Settings, topic: str) -> int:
    """The fleet's lag as monitors compute it: ends of partitions less the group's offsets."""
    consumer = Consumer(
        {"bootstrap.servers": settings.bootstrap_servers, "group.id": f"{settings.app_id}-fleet-vendor-llm"}
    )
    try:
        partitions = [TopicPartition(topic, p) for p in range(settings.partitions)]
        places = consumer.committed(partitions, timeout=10)
        ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        return sum(end - max(place.offset, 0) for end, place in zip(ends, places, strict=True))
    finally:
        consumer.close()
