"""Dead letters, markers of replayed ones, and groups by reason."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import orjson
import structlog
from confluent_kafka import Message

from streams.config.settings import Settings
from streams.kafka.scanner import Scanner, written_at
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.fields import decode_object
from streams.messages.headers import Headers, headers_of
from streams.messages.internal_fields import text_field, time_field
from streams.messages.rejection import RejectedMessage, find_reason

log = structlog.get_logger(__name__)

_DETAILS = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(\.\d+)?")
_MAX_KIND_CHARACTERS = 160


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter.

    Parameters
    ----------
    topic, partition, offset
        Position on the dead-letter topic.
    written_at : float
        Timestamp there, in seconds since the epoch.
    key, value : bytes or None
        Key and value of the rejected message, unaltered.
    headers : list of (str, bytes)
        Headers of the rejected message.
    errors : dict of str to str
        Values of `streams.messages.dead_letter.ERROR_HEADERS`; empty if another program wrote the letter.
    """

    topic: str
    partition: int
    offset: int
    written_at: float
    key: bytes | None
    value: bytes | None
    headers: Headers
    errors: dict[str, str]

    @classmethod
    def of(cls, message: Message) -> DeadLetter:
        """Return the letter of a message."""
        headers, errors = split_dead_letter_headers(headers_of(message))
        return cls(
            message.topic() or "",
            int(message.partition() or 0),
            int(message.offset() or 0),
            written_at(message),
            message.key(),
            message.value(),
            headers,
            errors,
        )

    @property
    def stage(self) -> str:
        """Stage that rejected the message."""
        return self.errors.get("stage", "unknown")

    @property
    def reason(self) -> str:
        """Reason of the rejection."""
        return self.errors.get("exception.message", "no reason is given")

    @property
    def kind(self) -> str:
        """Reason without numbers and quoted values, so that similar letters can be counted.

        Examples
        --------
        >>> errors = {"exception.message": "prompt: has 1200000 bytes; at most 1048576 are taken"}
        >>> DeadLetter("t", 0, 0, 0.0, None, None, [], errors).kind
        'prompt: has # bytes; at most # are taken'
        """
        known_reason = find_reason(self.stage, self.reason)
        return (_DETAILS.sub("#", self.reason) if known_reason is None else known_reason[1])[
            :_MAX_KIND_CHARACTERS
        ]

    @property
    def origin(self) -> tuple[str, int] | None:
        """Original topic and partition, or None if unknown."""
        topic, partition = self.errors.get("topic"), self.errors.get("partition", "")
        return (topic, int(partition)) if topic and partition.isdecimal() else None

    @property
    def refused_at(self) -> float:
        """Time of the rejection, in seconds since the epoch."""
        stamp = self.errors.get("timestamp", "")
        return int(stamp) / 1000 if stamp.isdecimal() else self.written_at

    @property
    def mark(self) -> bytes:
        """Key of the marker of a replay; the time distinguishes letters of a topic that was created again."""
        return f"{self.topic}:{self.partition}:{self.offset}:{self.written_at:.3f}".encode()

    @cached_property
    def content(self) -> str:
        """Digest of the message; if it is rejected again, its new letter has the same digest."""
        digest = hashlib.sha256()
        for part in (
            self.key,
            self.value,
            *(piece for name, value in self.headers for piece in (name, value)),
        ):
            raw = part.encode() if isinstance(part, str) else part
            digest.update(b"-" if raw is None else b"%d:" % len(raw))
            digest.update(raw or b"")
        return digest.hexdigest()


@dataclass
class ReplayMarkers:
    """Markers of replayed letters.

    Parameters
    ----------
    letters : set of bytes
        `DeadLetter.mark` of each replayed letter.
    contents : dict of str to float
        Time of the last replay by `DeadLetter.content`, in seconds since the epoch.
    """

    letters: set[bytes] = field(default_factory=set)
    contents: dict[str, float] = field(default_factory=dict)

    def add(self, key: bytes, value: bytes) -> None:
        """Add a marker of the topic.

        Raises
        ------
        RejectedMessage
            No replay wrote it.
        """
        fields = decode_object(value)
        at, content = time_field(fields, "at"), text_field(fields, "content")
        self.letters.add(key)
        self.contents[content] = max(at, self.contents.get(content, 0.0))

    def state(self, letter: DeadLetter) -> str:
        """Return `new`, `replayed`, or `back` for a message that was rejected again after a replay."""
        if letter.mark in self.letters:
            return "replayed"
        at = self.contents.get(letter.content)
        return "back" if at is not None and letter.refused_at >= at else "new"


def encode_mark(letter: DeadLetter, at: float) -> bytes:
    """Return the value of a marker."""
    return orjson.dumps({"at": at, "content": letter.content})


def read_letters(scanner: Scanner, topic: str) -> Iterator[DeadLetter]:
    """Yield the letters that a dead-letter topic has at the start of the call, the oldest first."""
    places = scanner.places(topic)
    # a replay may cause new letters while this reads
    ends = {place.partition: scanner.end(topic, place.partition) for place in places}
    for message in scanner.read(places):
        letter = DeadLetter.of(message)
        if letter.offset < ends[letter.partition]:
            yield letter


def read_marks(scanner: Scanner, settings: Settings) -> ReplayMarkers:
    """Return all committed markers, without records that no replay wrote."""
    marks = ReplayMarkers()
    for message in scanner.read(scanner.places(settings.topics.replayed)):
        if (value := message.value()) is not None:
            try:
                marks.add(message.key() or b"", value)
            except RejectedMessage as error:
                log.warning("replay_marker_not_read", offset=message.offset(), reason=str(error))
    return marks


@dataclass
class RejectionGroup:
    """Letters with the same stage and kind of reason.

    Parameters
    ----------
    stage, kind : str
    count : int
    states : dict of str to int
        Number of letters by state: new, replayed, back.
    first, last : int
        Offsets of the first and the last letter.
    last_at : float
        Time of the last rejection, in seconds since the epoch.
    example : str
        Full reason of the last letter.
    """

    stage: str
    kind: str
    first: int
    count: int = 0
    states: dict[str, int] = field(default_factory=lambda: {"new": 0, "replayed": 0, "back": 0})
    last: int = 0
    last_at: float = 0.0
    example: str = ""


def count_rejections(letters: Iterable[DeadLetter], marks: ReplayMarkers) -> list[RejectionGroup]:
    """Group letters by the reason of rejection, the most frequent first."""
    groups: dict[tuple[str, str], RejectionGroup] = {}
    for letter in letters:
        key = letter.stage, letter.kind
        group = groups.setdefault(key, RejectionGroup(*key, letter.offset))
        group.count += 1
        group.states[marks.state(letter)] += 1
        group.last, group.last_at, group.example = letter.offset, letter.refused_at, letter.reason
    return sorted(groups.values(), key=lambda group: -group.count)
