"""A fetch with a header name that is not UTF-8 is read whole, in the order and with the offsets it has."""

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords

from streams.odd_records import KeptRecords, ReadableRecords
from tests.odd_names import builder

TP = TopicPartition("queries", 3)
GZIP = 1
RECORDS = [
    (b"one", [(b"trace", b"1")]),
    (b"two", [(b"caf\xe9", b"\xff"), (b"na\xc3\xafve", None)]),
    (None, []),
    (b"four", [(b"\x80", b"")]),
]


def read(data: bytes, start: int = 0, aborted: list[tuple[int, int]] | None = None) -> list[object]:
    return list(ReadableRecords(TP, KeptRecords(data), aborted, start, None, None, True, READ_COMMITTED))


def built(*records: object, base: int = 0, **options: object) -> bytes:
    data = bytearray(builder(list(records), **options).build())
    data[:8] = base.to_bytes(8, "big")  # a broker sets the base offset, which the checksum leaves out
    return bytes(data)


def test_the_client_alone_gives_nothing_of_such_a_fetch():
    records = PartitionRecords(
        TP, MemoryRecords(built(*RECORDS)), None, 0, None, None, True, READ_COMMITTED
    )
    with pytest.raises(UnicodeDecodeError):
        list(records)


@pytest.mark.parametrize("compression", [0, GZIP])
def test_all_records_are_read(compression):
    found = read(built(*RECORDS, base=40, compression_type=compression))
    assert [record.offset for record in found] == [40, 41, 42, 43]
    assert [record.value for record in found] == [b"one", b"two", None, b"four"]
    assert [record.key for record in found] == [b"k0", b"k1", b"k2", b"k3"]
    assert [[(n.encode("utf-8", "surrogateescape"), v) for n, v in r.headers] for r in found] == [
        headers for _, headers in RECORDS
    ]


def test_what_was_given_before_the_odd_record_is_not_given_again():
    data = built(*RECORDS[:1], base=40) + built(*RECORDS, base=41) + built((b"last", []), base=45)
    assert [record.offset for record in read(data)] == list(range(40, 46))


def test_a_fetch_may_begin_within_a_batch():
    data = built(*RECORDS, base=41) + built((b"last", []), base=45)
    assert [record.offset for record in read(data, start=43)] == [43, 44, 45]


def test_aborted_records_stay_out_when_the_fetch_is_read_again():
    transaction = {"is_transactional": 1, "producer_id": 7, "producer_epoch": 0, "base_sequence": 0}
    other = transaction | {"producer_id": 8}
    data = (
        built((b"aborted", []), base=10, **transaction)
        + built((b"kept", []), base=11, **other)
        + built((b"odd", [(b"\xff", b"")]), base=12)
    )
    assert [record.value for record in read(data, aborted=[(7, 10)])] == [b"kept", b"odd"]


def test_a_damaged_record_is_still_told():
    data = bytearray(built(*RECORDS))
    data[-3] ^= 1
    with pytest.raises(Exception, match="CRC"):
        read(bytes(data))
