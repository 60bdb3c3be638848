"""Which of a partition's queries are answered: answers finish in any order, what is committed says which.

A committed offset says that everything before it is done. What is done beyond it goes into the metadata that
Kafka keeps with the offset, as a bitmap: one slow answer neither holds up the others nor makes a worker that
takes over ask for them again.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable

MOST_AHEAD = 16_384
"""Offsets that a partition may be ahead of its first unanswered query: 2.7 kB of metadata of Kafka's 4 kB."""

MARK = "b1:"
"""What the metadata begins with; anything else is not ours and means that nothing beyond is done."""


class Progress:
    """What became of the messages of one partition since the committed offset.

    Parameters
    ----------
    base : int
        The committed offset: everything before it is done.
    metadata : str or None
        What was committed with it.

    Examples
    --------
    >>> progress = Progress(10)
    >>> [progress.take(offset) for offset in (10, 11, 13)]
    [True, True, True]
    >>> offset, metadata = progress.after([11])
    >>> offset, Progress(offset, metadata).take(11)
    (10, False)
    >>> progress.finish([11, 10])
    >>> progress.after([])[0]
    13
    """

    def __init__(self, base: int, metadata: str | None = None) -> None:
        self._next = base
        self._open: dict[int, None] = {}
        self._done = _decode(base, metadata)

    def take(self, offset: int) -> bool:
        """A message was read; False when it is answered or being answered already."""
        if offset < self._next or offset in self._done:
            self._next = max(self._next, offset + 1)
            return False
        self._next = offset + 1
        self._open[offset] = None
        return True

    def is_open(self, offset: int) -> bool:
        """The message was read and not answered yet."""
        return offset in self._open

    def is_done(self, offset: int) -> bool:
        """The message is answered, and that is committed."""
        return offset not in self._open and (offset < self._next or offset in self._done)

    def finish(self, offsets: Iterable[int]) -> None:
        """These answers are committed."""
        for offset in offsets:
            if offset in self._open:
                del self._open[offset]
                self._done.add(offset)
        base = self._base(self._open)
        self._done = {offset for offset in self._done if offset >= base}

    def after(self, offsets: Iterable[int]) -> tuple[int, str]:
        """Offset and metadata to commit together with the answers to these messages."""
        finishing = {offset for offset in offsets if offset in self._open}
        base = self._base(offset for offset in self._open if offset not in finishing)
        return base, _encode(base, self._done | finishing)

    @property
    def ahead(self) -> int:
        """Offsets between the first unanswered message and the next to read."""
        return self._next - self._base(self._open)

    def _base(self, still_open: Iterable[int]) -> int:
        # messages are taken in order, so the first that is open is the least
        return next(iter(still_open), self._next)


def _encode(base: int, done: Iterable[int]) -> str:
    bits = 0
    for offset in done:
        if offset >= base:
            bits |= 1 << (offset - base)
    if not bits:
        return ""
    raw = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    return MARK + binascii.b2a_base64(raw, newline=False).decode()


def _decode(base: int, metadata: str | None) -> set[int]:
    if not metadata or not metadata.startswith(MARK):
        return set()
    try:
        bits = int.from_bytes(binascii.a2b_base64(metadata[len(MARK) :], strict_mode=True), "little")
    except ValueError:
        return set()
    return {base + place for place in range(bits.bit_length()) if bits >> place & 1}
