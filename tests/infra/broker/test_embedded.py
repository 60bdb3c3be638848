"""The embedded broker mishandles overlapping transactions, and a worker avoids them there."""

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker.lifecycle import temporary_broker
from streams.kafka.clients import mishandles_overlapping_transactions
from streams.kafka.transactions import FencedProducer
from tests.read_topics import read_to_end


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    with temporary_broker("embedded") as record:
        yield record.bootstrap_servers


@pytest.mark.parametrize("in_turn", [True, False])
def test_embedded_overlapping_transactions_lose_the_first(servers: str, unique, in_turn: bool):
    topic, other = unique("one"), unique("other")
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(topic, 1, 1), NewTopic(other, 1, 1)]).values():
        future.result(30)
    first, second, third = (
        FencedProducer({"bootstrap.servers": servers, "transactional.id": unique("owner")}, in_turn=in_turn)
        for _ in range(3)
    )

    def write(producer: FencedProducer, *topics: str) -> None:
        producer.begin()
        for name in topics:
            producer.produce(name, b"second" if producer is second else b"first", partition=0)
        producer._producer.flush(10)

    if in_turn:
        for producer, topics in ((third, (other,)), (second, (other, topic)), (first, (topic,))):
            write(producer, *topics)
            producer.commit()
    else:
        # the first waits for the second, the second for the third, and then the first is not ended
        write(third, other)
        write(second, other, topic)
        write(first, topic)
        for producer in (first, second, third):
            producer.commit()
    # the broker is fixed if both are seen without turns: delete `mishandles_overlapping_transactions`
    committed = {message.value() for message in read_to_end(servers, [topic])}
    assert committed == ({b"first", b"second"} if in_turn else {b"second"})


def test_embedded_broker_is_recognised_by_cluster_name(servers: str, bootstrap_servers: str):
    assert mishandles_overlapping_transactions(AdminClient({"bootstrap.servers": servers}))
    assert not mishandles_overlapping_transactions(AdminClient({"bootstrap.servers": bootstrap_servers}))
