"""Reading of whole topics, from their beginning to their current end."""

import secrets
import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition


def read_to_end(
    servers: str, names: Sequence[str], isolation: str = "read_committed", timeout: float = 60.0
) -> list[Message]:
    """Return every record, in order within each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"read-{secrets.token_hex(4)}",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        topics = consumer.list_topics(timeout=timeout).topics
        missing = [name for name in names if name not in topics]
        assert not missing, f"no such topics: {missing}"
        assigned = [TopicPartition(name, p, 0) for name in names for p in topics[name].partitions]
        consumer.assign(assigned)
        ended: set[tuple[str | None, int | None]] = set()
        records: list[Message] = []
        deadline = time.monotonic() + timeout
        while len(ended) < len(assigned):
            assert time.monotonic() < deadline, (
                f"read {len(ended)} of {len(assigned)} partitions in {timeout} s"
            )
            for message in consumer.consume(1000, timeout=0.2):
                error = message.error()
                if error is None:
                    records.append(message)
                # Ignore other errors, such as "all brokers down".
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add((message.topic(), message.partition()))
        return records
    finally:
        consumer.close()
