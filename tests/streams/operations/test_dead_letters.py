"""Markers of replayed dead letters."""

from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from streams.config.settings import Settings
from streams.operations.dead_letters import DeadLetter, encode_mark, read_marks
from tests.streams.memory_topics import Message

LETTER = DeadLetter("queries.dlq", 0, 5, 7.0, b"k", b"v", [], {})


def test_foreign_record_among_markers_is_logged_and_skipped():
    records = [
        Message(0, b"{", b"k"),
        Message(1, b'{"at":1.5}', b"k"),
        Message(2, None, b"k"),
        Message(3, encode_mark(LETTER, 9.5), LETTER.mark),
    ]
    scanner: Any = SimpleNamespace(places=lambda topic: [topic], read=lambda places: iter(records))
    with capture_logs() as logs:
        marks = read_marks(scanner, Settings())
    assert [(entry["event"], entry["offset"]) for entry in logs] == [
        ("replay_marker_not_read", 0),
        ("replay_marker_not_read", 1),
    ]
    assert marks.state(LETTER) == "replayed"
    assert marks.contents == {LETTER.content: 9.5}
