"""Records with header names that are not UTF-8, as clients in other languages can send them."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

RawHeaders = Sequence[tuple[bytes, bytes | None]]


class _Name(str):
    """Name that encodes to arbitrary bytes, because Python clients accept only text."""

    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> _Name:
        name = cls(raw.decode("latin-1"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


def builder(
    records: Sequence[tuple[bytes | None, RawHeaders]], **options: object
) -> _DefaultRecordBatchBuilderPy:
    """Return an unfinished batch of records, each with a value and headers."""
    defaults = {
        "magic": 2,
        "compression_type": 0,
        "is_transactional": 0,
        "producer_id": -1,
        "producer_epoch": -1,
        "base_sequence": -1,
        "batch_size": 2**24,
    }
    batch = _DefaultRecordBatchBuilderPy(**(defaults | options))
    for offset, (value, headers) in enumerate(records):
        assert batch.append(
            offset,
            timestamp=1_700_000_000_000 + offset,
            key=b"k%d" % offset,
            value=value,
            headers=[(_Name.of(name), content) for name, content in headers],
        )
    return batch


async def send_raw(
    servers: str, topic: str, partition: int, records: Sequence[tuple[bytes | None, RawHeaders]]
) -> int:
    """Send such records in one batch to a broker, and return the offset of the first."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        batch = BatchBuilder(2**24, 0)
        batch._builder = builder(records)
        batch._relative_offset = len(records)
        sent = await producer.send_batch(batch, topic, partition=partition)
        return int((await sent).offset)
    finally:
        await producer.stop()
