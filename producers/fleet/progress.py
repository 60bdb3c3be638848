"""Track which queries of a partition are answered, in any order.

All messages before the committed offset are done. The messages done after it are a bitmap in the metadata
that Kafka stores with the offset. So a slow answer does not delay the others, and a worker that takes over
does not ask for them again.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable

MAX_OFFSETS_AHEAD = 16_384
"""Maximum offsets between the first unanswered query and the last read: 2.7 kB of Kafka's 4 kB metadata."""

PREFIX = "b1:"
"""Begin of the metadata. Other metadata is ignored: no message after the offset is done."""


class OffsetProgress:
    """State of the messages of one partition since the committed offset.

    Parameters
    ----------
    base : int
        The committed offset; all messages before it are done.
    metadata : str or None
        The metadata committed with it.

    Examples
    --------
    >>> progress = OffsetProgress(10)
    >>> [progress.start(offset) for offset in (10, 11, 13)]
    [True, True, True]
    >>> offset, metadata = progress.after([11])
    >>> offset, OffsetProgress(offset, metadata).start(11)
    (10, False)
    >>> progress.finish([11, 10])
    >>> progress.after([])[0]
    13
    """

    def __init__(self, base: int, metadata: str | None = None) -> None:
        self._next = base
        self._open: dict[int, None] = {}
        self._done = _decode(base, metadata)

    def start(self, offset: int) -> bool:
        """Record a message that was read; return False if it is already answered or in flight."""
        if offset < self._next or offset in self._done:
            self._next = max(self._next, offset + 1)
            return False
        self._next = offset + 1
        self._open[offset] = None
        return True

    def reach(self, offset: int) -> None:
        """Record the end of the partition; offsets before it that were not read are not messages."""
        self._next = max(self._next, offset)

    @property
    def position(self) -> int:
        """Offset of the first unanswered message, or of the next to read."""
        return self._base(self._open)

    @property
    def idle(self) -> bool:
        """True if all messages that were read are answered."""
        return not self._open

    def is_open(self, offset: int) -> bool:
        """Return whether the message was read and is not answered yet."""
        return offset in self._open

    def is_done(self, offset: int) -> bool:
        """Return whether the message is answered and the answer committed."""
        return offset not in self._open and (offset < self._next or offset in self._done)

    def finish(self, offsets: Iterable[int]) -> None:
        """Record that the answers to these messages are committed."""
        for offset in offsets:
            if offset in self._open:
                del self._open[offset]
                self._done.add(offset)
        base = self.position
        self._done = {offset for offset in self._done if offset >= base}

    def after(self, offsets: Iterable[int]) -> tuple[int, str]:
        """Return the offset and metadata to commit with the answers to these messages."""
        finishing = {offset for offset in offsets if offset in self._open}
        base = self._base(offset for offset in self._open if offset not in finishing)
        return base, _encode(base, self._done | finishing)

    @property
    def ahead(self) -> int:
        """Number of offsets between the first unanswered message and the next to read."""
        return self._next - self.position

    def _base(self, still_open: Iterable[int]) -> int:
        # messages are read in order, so the first open offset is the minimum
        return next(iter(still_open), self._next)


def _encode(base: int, done: Iterable[int]) -> str:
    bits = 0
    for offset in done:
        if offset >= base:
            bits |= 1 << (offset - base)
    if not bits:
        return ""
    raw = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    return PREFIX + binascii.b2a_base64(raw, newline=False).decode()


def _decode(base: int, metadata: str | None) -> set[int]:
    if not metadata or not metadata.startswith(PREFIX):
        return set()
    try:
        bits = int.from_bytes(binascii.a2b_base64(metadata[len(PREFIX) :], strict_mode=True), "little")
    except ValueError:
        return set()
    return {base + place for place in range(bits.bit_length()) if bits >> place & 1}
