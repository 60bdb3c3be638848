"""Fetches with a header name that is not UTF-8 are read whole; a batch that cannot be read is reported."""

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from streams.lanes.aiokafka_patch import KeptRecords, ReadableRecords, end_of_batch
from streams.lanes.unreadable import Unreadable
from tests.raw_header_records import builder

TP = TopicPartition("queries", 3)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
RECORDS = [
    (b"one", [(b"trace", b"1")]),
    (b"two", [(b"caf\xe9", b"\xff"), (b"na\xc3\xafve", None)]),
    (None, []),
    (b"four", [(b"\x80", b"")]),
]


def refuse(place: tuple[str, int], unreadable: Unreadable) -> None:
    raise AssertionError(f"{place} {unreadable}")


def read(
    data: bytes, start: int = 0, aborted: list[tuple[int, int]] | None = None, report=refuse
) -> list[object]:
    fetch = KeptRecords(data)
    return list(ReadableRecords(report, TP, fetch, aborted, start, None, None, True, READ_COMMITTED))


def reported(data: bytes, start: int) -> Unreadable:
    """Reports of a fetch without a readable record."""
    reports = []
    assert read(data, start, report=lambda place, what: reports.append((place, what))) == []
    ((place, what),) = reports
    assert place == ("queries", 3)
    return what


def damaged(data: bytes, place: int = -3) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def of_codec(data: bytes, codec: int) -> bytes:
    """The same batch, said to be of another codec, with a checksum that fits."""
    changed = bytearray(data)
    changed[22] = changed[22] & ~7 | codec
    changed[17:21] = calc_crc32c(bytes(changed[21:])).to_bytes(4, "big")
    return bytes(changed)


def built(*records: object, base: int = 0, **options: object) -> bytes:
    data = bytearray(builder(list(records), **options).build())
    data[:8] = base.to_bytes(8, "big")  # a broker sets the base offset, which the checksum leaves out
    return bytes(data)


def test_unpatched_reader_invalid_name_loses_the_fetch():
    records = PartitionRecords(TP, MemoryRecords(built(*RECORDS)), None, 0, None, None, True, READ_COMMITTED)
    with pytest.raises(UnicodeDecodeError):
        list(records)


@pytest.mark.parametrize("compression", CODECS.values(), ids=CODECS)
def test_patched_reader_invalid_name_reads_all_records(compression):
    records = read(built(*RECORDS, base=40, compression_type=compression))
    assert [record.offset for record in records] == [40, 41, 42, 43]
    assert [record.value for record in records] == [b"one", b"two", None, b"four"]
    assert [record.key for record in records] == [b"k0", b"k1", b"k2", b"k3"]
    assert [[(n.encode("utf-8", "surrogateescape"), v) for n, v in r.headers] for r in records] == [
        headers for _, headers in RECORDS
    ]


def test_patched_reader_returns_no_record_twice():
    data = built(*RECORDS[:1], base=40) + built(*RECORDS, base=41) + built((b"last", []), base=45)
    assert [record.offset for record in read(data)] == list(range(40, 46))


def test_patched_reader_fetch_may_begin_within_a_batch():
    data = built(*RECORDS, base=41) + built((b"last", []), base=45)
    assert [record.offset for record in read(data, start=43)] == [43, 44, 45]


def test_patched_reader_skips_aborted_records():
    transaction = {"is_transactional": 1, "producer_id": 7, "producer_epoch": 0, "base_sequence": 0}
    other = transaction | {"producer_id": 8}
    data = (
        built((b"aborted", []), base=10, **transaction)
        + built((b"kept", []), base=11, **other)
        + built((b"odd", [(b"\xff", b"")]), base=12)
    )
    assert [record.value for record in read(data, aborted=[(7, 10)])] == [b"kept", b"odd"]


def test_patched_reader_damaged_batch_is_reported_with_its_offsets():
    unreadable = reported(damaged(built(*RECORDS, base=40)), 40)
    assert (unreadable.offset, unreadable.end) == (40, 44)
    assert "CRC" in unreadable.reason
    assert "offsets 40 to 43 cannot be read" in str(unreadable)


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_patched_reader_unknown_codec_is_reported(codec):
    unreadable = reported(of_codec(built(*RECORDS, base=40), codec), 41)
    assert (unreadable.offset, unreadable.end) == (41, 44)
    assert "codec" in unreadable.reason


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_patched_reader_undecompressable_batch_is_reported(codec):
    assert reported(of_codec(built(*RECORDS, base=40), codec), 40).end == 44


@pytest.mark.parametrize("data", [b"x", b"\0" * 40, b"\0" * 8 + b"\xff" * 40, b"\0" * 8 + b"\x7f" * 70])
def test_patched_reader_bytes_without_batch_are_reported(data):
    """One offset at least lies there, whatever the header says."""
    unreadable = reported(data, 40)
    assert unreadable.offset == 40
    assert unreadable.end >= 41


def test_patched_reader_reads_up_to_a_damaged_batch():
    """The next fetch begins with it, and only then is it reported."""
    good, bad, more = (built(*RECORDS, base=base) for base in (40, 44, 48))
    assert [record.offset for record in read(good + damaged(bad) + more)] == [40, 41, 42, 43]
    unreadable = reported(good + damaged(bad) + more, 44)
    assert (unreadable.offset, unreadable.end) == (44, 48)


def test_patched_reader_invalid_name_and_damaged_batch_reads_up_to_it():
    data = built(*RECORDS, base=40) + damaged(built((b"last", []), base=44))
    assert [record.offset for record in read(data)] == [40, 41, 42, 43]
    assert reported(data, 44).end == 45


def test_batch_end_is_found_among_several_batches():
    data = built(*RECORDS, base=40) + built((b"last", []), base=44) + built(*RECORDS, base=45)
    assert [end_of_batch(data, offset) for offset in (40, 43, 44, 45, 48)] == [44, 44, 45, 49, 49]
    assert end_of_batch(data, 60) == 61
