"""What the embedded broker makes of transactions that overlap, and that a worker there does without."""

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker import embedded_broker
from streams.kafka import loses_overlapping
from streams.transactions import FencedProducer
from tests.reading import read_to_end


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    with embedded_broker() as record:
        yield record.bootstrap_servers


@pytest.mark.parametrize("in_turn", [True, False])
def test_the_first_of_a_chain_that_overlaps_is_lost_sight_of(servers: str, unique, in_turn: bool):
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
        # the first waits for the second, the second for the third, and then nobody looks at the first
        write(third, other)
        write(second, other, topic)
        write(first, topic)
        for producer in (first, second, third):
            producer.commit()
    # when both are seen without turns as well, the broker is mended, and `loses_overlapping` can go
    committed = {message.value() for message in read_to_end(servers, [topic])}
    assert committed == ({b"first", b"second"} if in_turn else {b"second"})


def test_it_is_known_by_the_name_of_its_cluster(servers: str, bootstrap_servers: str):
    assert loses_overlapping(AdminClient({"bootstrap.servers": servers}))
    assert not loses_overlapping(AdminClient({"bootstrap.servers": bootstrap_servers}))
