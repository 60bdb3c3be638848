"""Compression codecs, and damaged batches: only their partition stops, until its records are deleted.

Needs Apache Kafka (the fixtures `bootstrap_servers` and `start_cluster` find or start it).
"""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from infra.broker.ports import free_ports
from tests.conftest import ClusterStarter
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import command
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import Worker, wait_for

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def compress(router: Router, topic: str, codec: str) -> None:
    """Set the codec of a topic, which overrides the producers' codec."""
    entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    router.admin.incremental_alter_configs([resource])[resource].result(30)


def send_compressed(router: Router, codec: str, rows: range) -> None:
    """Send prepared queries in one batch of a codec."""
    sender = Producer(
        {"bootstrap.servers": router.settings.brokers(), "compression.type": codec, "linger.ms": 100}
    )

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        router.sent[message.partition(), message.offset()] = codec  # type: ignore[attr-defined]

    for row in rows:
        _, value = router.query(row, f"{codec}-{row}")
        sender.produce(router.topics.queries, value, partition=row % 2, on_delivery=delivered)
    assert sender.flush(30) == 0


def test_worker_reads_every_codec_on_every_input_topic(router: MakeRouter) -> None:
    """Test the client's codec, the topic's codec, and topics that the router itself writes."""
    stream = router(partitions=2)
    compress(stream, stream.topics.samples, "zstd")
    compress(stream, stream.topics.overflow, "lz4")
    worker = stream.start(ready=True)
    for number, codec in enumerate(CODECS):
        send_compressed(stream, codec, range(60 * number, 60 * number + 60))
        stream.all_landed()
    for number, codec in enumerate(CODECS):
        compress(stream, stream.topics.queries, "uncompressed" if codec == "none" else codec)
        stream.send(range(40 * number, 40 * number + 40), tag=f"topic-{codec}-")
        stream.all_landed()
    # An invalid query that is large enough to be compressed.
    stream.send_raw("refused", b'{"id": "refused", "text": "' + b"the field has another name, " * 300 + b'"}')
    stream.all_landed()
    assert "1 replayed" in command(stream, "dlq", "replay", "queries")
    stream.send(range(300, 340), tag="after-")
    wait_for(lambda: stream.ledgers()[0].account.dead == 2, 30, "the replayed query is rejected again")
    stream.all_landed()
    assert stream.plan().learned, "samples were read"
    assert sum(record.account.deferred for record in stream.ledgers().values()), "queries were deferred"
    assert worker.alive
    assert not worker.logged("partition_unreadable")


@pytest.fixture
def own_broker(
    start_cluster: ClusterStarter, small: Small, tmp_path: Path, unique: Callable[[str], str]
) -> Iterator[tuple[Router, Path]]:
    """Create a router on a separate broker, and return it with the broker's data folder."""
    cluster = start_cluster(1)
    stream = Router(
        cluster.bootstrap_servers,
        small,
        tmp_path,
        unique("damaged"),
        partitions=2,
        overflow="on",
        web_port=free_ports(1)[0],
    )
    try:
        yield stream, cluster._nodes[1].folder / "data"
    finally:
        stream.close()


def damage(data: Path, topic: str, base: int) -> None:
    """Change a byte in the batch of partition 0 that begins at an offset."""
    (segment,) = (data / f"{topic}-0").glob("*.log")
    content, position = bytearray(segment.read_bytes()), 0
    while int.from_bytes(content[position : position + 8], "big") != base:
        position += 12 + int.from_bytes(content[position + 8 : position + 12], "big")
    with segment.open("r+b") as file:
        file.seek(position + 100)
        file.write(bytes([content[position + 100] ^ 1]))


def get(stream: Router, path: str) -> tuple[int, str]:
    """Request a path of the worker's HTTP port and return status and text."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{stream.settings.web_port}{path}", timeout=10
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def assert_partition_stops(stream: Router, worker: Worker, offset: int, end: int) -> None:
    """Check that the damaged partition is reported, and that the liveness probe stays positive."""
    wait_for(lambda: worker.logged("partition_unreadable"), 60, f"it is logged; {worker.log}")
    event = next(worker.events("partition_unreadable"))
    assert (event["topic"], event["partition"]) == (stream.topics.queries, 0)
    assert (event["offset"], event["end"]) == (offset, end)
    assert "CRC" in event["reason"]
    assert get(stream, "/healthz")[0] == 200
    status, text = get(stream, "/readyz")
    assert status == 503
    assert f"offsets {offset} to {end - 1} cannot be read" in text
    metrics = get(stream, "/metrics")[1]
    assert f'port_lane_unreadable_ratio{{lane="{stream.topics.queries}:0"}} 1.0' in metrics
    assert f'port_lane_unreadable_ratio{{lane="{stream.topics.queries}:1"}} 0.0' in metrics


def test_damaged_batch_stops_only_its_partition_until_its_records_are_deleted(
    own_broker: tuple[Router, Path],
) -> None:
    stream, data = own_broker
    # Three batches on partition 0; the second one is damaged.
    for number, first in enumerate((0, 50, 60)):
        stream.send(range(first, first + (10 if number == 1 else 50)), [0] * (10 if number == 1 else 50))
    lost = {(0, offset) for offset in range(50, 60)}
    damage(data, stream.topics.queries, 50)
    stream.send(range(200, 400), [1] * 200)
    worker = stream.start(ready=True)
    before = set(stream.sent) - {(0, offset) for offset in range(50, 110)}
    wait_for(lambda: before <= set(stream.landed), 60, f"all others are routed; {worker.log}")
    assert_partition_stops(stream, worker, 50, 60)

    # Another worker stops there, too.
    assert worker.stop() == 0
    worker = stream.start(ready=True)
    assert_partition_stops(stream, worker, 50, 60)
    stream.send(range(400, 440), [1] * 40)
    waiting = {(0, offset) for offset in range(50, 110)}
    wait_for(lambda: set(stream.sent) - set(stream.landed) <= waiting, 60, "the other partition goes on")

    place = TopicPartition(stream.topics.queries, 0, 60)
    stream.admin.delete_records([place])[place].result(30)
    wait_for(lambda: set(stream.sent) - set(stream.landed) == lost, 90, f"it goes on; {worker.log}")
    wait_for(lambda: worker.logged("partition_readable"), 30, f"it is logged; {worker.log}")
    wait_for(lambda: get(stream, "/readyz")[0] == 200, 30, "the worker is ready")
    stream.send(range(440, 460))
    wait_for(lambda: set(stream.sent) - set(stream.landed) == lost, 60, "new queries are routed")
    assert worker.alive
