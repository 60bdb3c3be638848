"""Dead letters as they lie on their topics, and the marks of those that were replayed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import orjson
from confluent_kafka import Message

from streams.dead_letters import split_dead_letter_headers
from streams.headers import headers_of
from streams.scanning import Scanner, written_at
from streams.settings import Settings

Headers = list[tuple[str, bytes | None]]

_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(\.\d+)?")
_LONGEST_KIND = 160


@dataclass(frozen=True)
class Letter:
    """A dead letter.

    Parameters
    ----------
    topic, partition, offset
        Where it lies.
    written_at : float
        When it was written there; seconds since the epoch.
    key, value : bytes or None
        The refused message's own, byte for byte.
    headers : list of (str, bytes)
        The refused message's own.
    errors : dict of str to str
        What was said about it (`streams.dead_letters.ERROR_HEADERS`); empty when it is none of ours.
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
    def of(cls, message: Message) -> Letter:
        """The letter that a message of a dead-letter topic is."""
        headers, errors = split_dead_letter_headers(headers_of(message))
        return cls(
            message.topic() or "", int(message.partition() or 0), int(message.offset() or 0),
            written_at(message), message.key(), message.value(), headers, errors,
        )  # fmt: skip

    @property
    def stage(self) -> str:
        """Where it was refused."""
        return self.errors.get("stage", "unknown")

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return self.errors.get("exception.message", "it does not say why")

    @property
    def kind(self) -> str:
        """The reason without what is particular to this letter, so that equal ones can be counted.

        Examples
        --------
        >>> told = {"exception.message": "prompt: has 1200000 bytes; at most 1048576 are taken"}
        >>> Letter("t", 0, 0, 0.0, None, None, [], told).kind
        'prompt: has # bytes; at most # are taken'
        """
        return _PARTICULARS.sub("#", self.reason)[:_LONGEST_KIND]

    @property
    def origin(self) -> tuple[str, int] | None:
        """Topic and partition that it came from; None when it does not say."""
        topic, partition = self.errors.get("topic"), self.errors.get("partition", "")
        return (topic, int(partition)) if topic and partition.isdecimal() else None

    @property
    def refused_at(self) -> float:
        """When it was refused; seconds since the epoch."""
        stamp = self.errors.get("timestamp", "")
        return int(stamp) / 1000 if stamp.isdecimal() else self.written_at

    @property
    def mark(self) -> bytes:
        """Key of the mark that says it was replayed; the time tells letters apart when a topic began anew."""
        return f"{self.topic}:{self.partition}:{self.offset}:{self.written_at:.3f}".encode()

    @cached_property
    def content(self) -> str:
        """Digest of what would be sent: the same message refused again has the same."""
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
class Marks:
    """What was replayed: by letter, and when a content was last.

    Parameters
    ----------
    letters : set of bytes
        `Letter.mark` of each.
    contents : dict of str to float
        By `Letter.content`: when it was last replayed, in seconds since the epoch.
    """

    letters: set[bytes] = field(default_factory=set)
    contents: dict[str, float] = field(default_factory=dict)

    def add(self, key: bytes, value: bytes) -> None:
        """Take in a mark as it is on the topic."""
        fields = orjson.loads(value)
        self.letters.add(key)
        at = max(fields["at"], self.contents.get(fields["content"], 0.0))
        self.contents[fields["content"]] = at

    def state(self, letter: Letter) -> str:
        """`new`, `replayed`, or `back`: it is what became of a letter that was replayed before."""
        if letter.mark in self.letters:
            return "replayed"
        at = self.contents.get(letter.content)
        return "back" if at is not None and letter.refused_at >= at else "new"


def encode_mark(letter: Letter, at: float) -> bytes:
    """The mark of a letter that is being replayed, as a message's value."""
    return orjson.dumps({"at": at, "content": letter.content})


def read_letters(scanner: Scanner, topic: str) -> Iterator[Letter]:
    """Every letter that a dead-letter topic has now, the oldest first."""
    places = scanner.places(topic)
    # letters that come while these are looked at may come of it
    ends = {place.partition: scanner.end(topic, place.partition) for place in places}
    for message in scanner.read(places):
        letter = Letter.of(message)
        if letter.offset < ends[letter.partition]:
            yield letter


def read_marks(scanner: Scanner, settings: Settings) -> Marks:
    """Every mark that is committed."""
    marks = Marks()
    for message in scanner.read(scanner.places(settings.topics.replayed)):
        if (value := message.value()) is not None:
            marks.add(message.key() or b"", value)
    return marks


@dataclass
class Kind:
    """Letters refused for the same reason.

    Parameters
    ----------
    stage, kind : str
    count : int
    states : dict of str to int
        How many are new, replayed, back.
    first, last : int
        Offsets.
    last_at : float
        When the last was refused; seconds since the epoch.
    example : str
        The last one's whole reason.
    """

    stage: str
    kind: str
    first: int
    count: int = 0
    states: dict[str, int] = field(default_factory=lambda: {"new": 0, "replayed": 0, "back": 0})
    last: int = 0
    last_at: float = 0.0
    example: str = ""


def count_kinds(letters: Iterable[Letter], marks: Marks) -> list[Kind]:
    """Letters by why they were refused, the most frequent first."""
    found: dict[tuple[str, str], Kind] = {}
    for letter in letters:
        key = letter.stage, letter.kind
        kind = found.setdefault(key, Kind(*key, letter.offset))
        kind.count += 1
        kind.states[marks.state(letter)] += 1
        kind.last, kind.last_at, kind.example = letter.offset, letter.refused_at, letter.reason
    return sorted(found.values(), key=lambda kind: -kind.count)
