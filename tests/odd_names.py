"""Records as a client in another language can send them: header names in bytes that are not UTF-8."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

RawHeaders = Sequence[tuple[bytes, bytes | None]]


class _Name(str):
    """A name that is encoded as the bytes it was made of; clients in Python take nothing but text."""

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
    """A batch of records, each of a value and headers, still to be built."""
    told = {
        "magic": 2, "compression_type": 0, "is_transactional": 0, "producer_id": -1, "producer_epoch": -1,
        "base_sequence": -1, "batch_size": 2**24,
    }  # fmt: skip
    made = _DefaultRecordBatchBuilderPy(**(told | options))
    for offset, (value, headers) in enumerate(records):
        assert made.append(
            offset, timestamp=1_700_000_000_000 + offset, key=b"k%d" % offset, value=value,
            headers=[(_Name.of(name), content) for name, content in headers],
        )  # fmt: skip
    return made


async def send_raw(
    servers: str, topic: str, partition: int, records: Sequence[tuple[bytes | None, RawHeaders]]
) -> int:
    """Send such records, in one batch, to a broker; the offset of the first."""
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
