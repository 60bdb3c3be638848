"""The status topic's reader keeps valid records, and logs the others."""

from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from streams.config.settings import Settings
from streams.telemetry.status_topic import StatusReader
from tests.streams.memory_topics import Message

BEAT: dict[str, Any] = {"worker": "a-1", "at": 4e9, "started_at": 1.0, "seconds": {}}


@pytest.fixture
def reader() -> StatusReader:
    return StatusReader(Settings(bootstrap_servers="localhost:9"))


def read(reader: StatusReader, key: bytes, value: object) -> list[str]:
    """Read one record; return the logged events."""
    with capture_logs() as logs:
        body = value if isinstance(value, bytes | None) else orjson.dumps(value)
        reader._read(Message(7, body, key))  # type: ignore[arg-type]
    return [entry["event"] for entry in logs]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"worker.a-1", b"{"),
        (b"worker.a-1", []),
        (b"worker.a-1", {"worker": "a-1"}),
        (b"worker.a-1", BEAT | {"at": "now"}),
        (b"worker.a-1", BEAT | {"seconds": {"latency": [5]}}),
        (b"point.10.0", {"period": 3}),
        (b"point.10.0", 7),
    ],
)
def test_invalid_record_is_logged_and_leaves_the_last_state(reader: StatusReader, key: bytes, value: object):
    assert read(reader, b"worker.a-1", BEAT) == read(reader, b"point.10.0", {"at": 7.5}) == []
    assert read(reader, key, value) == ["status_not_read"]
    assert [worker["worker"] for worker in reader.workers()] == ["a-1"]
    assert reader.timeline.newest() == {"at": 7.5}


def test_records_of_unknown_kinds_are_ignored_and_deletions_are_applied(reader: StatusReader):
    read(reader, b"worker.a-1", BEAT)
    assert read(reader, b"invented.later", b"?") == []
    assert read(reader, b"worker.a-1", None) == []
    assert reader.workers() == []
