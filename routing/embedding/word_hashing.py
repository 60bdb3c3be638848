"""Prompts to words without per-text Python: the bytes of a whole batch, cut into runs and hashed in NumPy.

A word is a run of letters (ASCII letters and every byte of a non-ASCII character), a single digit or a single
sign. Its hash is the polynomial ``sum_k c_k R^k`` modulo 2^64 of its lower-cased bytes, taken as a difference
of cumulative sums times a power of the inverse of R, so it is exact and independent of its position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BytesArray = NDArray[np.uint8]
IntArray = NDArray[np.intp]

BOUNDARY, LETTERS, DIGIT, SPACE, SIGN = 0, 1, 2, 3, 4
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)
_CHUNK_BYTES = 1 << 18  # A chunk stays in the processor's cache.
_PAD = 8  # Zero bytes after the last text: looking ahead never leaves the buffer.


def _byte_classes() -> BytesArray:
    """Return the class of each byte; control characters count as space."""
    classes = np.full(256, SPACE, np.uint8)
    classes[0] = BOUNDARY
    classes[128:] = LETTERS
    for code in range(33, 127):
        character = chr(code)
        classes[code] = LETTERS if character.isalpha() else DIGIT if character.isdigit() else SIGN
    return classes


_CLASS = _byte_classes()
_LOWER = np.arange(256, dtype=np.uint8)
_LOWER[65:91] += 32
_LOWER64 = _LOWER.astype(np.uint64)
_FIRST = np.zeros(1, np.intp)


@dataclass(frozen=True)
class Words:
    """The runs of a batch of texts, in order of appearance.

    Parameters
    ----------
    buffer : ndarray of uint8
        All texts, a zero byte before each and zero bytes at the end.
    bounds : ndarray of int, shape [n + 1]
        Positions of the zero bytes before each text and after the last.
    text, kind, start, length : ndarrays, shape [runs]
        Number of the text, class (`LETTERS`, `DIGIT`, `SPACE` or `SIGN`), first byte and length in bytes.
    hashes : ndarray of uint64, shape [runs]
        Polynomial hash of each run.
    """

    buffer: BytesArray
    bounds: IntArray
    text: IntArray
    kind: BytesArray
    start: IntArray
    length: IntArray
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def per_text(self, positions: IntArray) -> IntArray:
        """Count the sorted byte positions in each text."""
        if len(self.bounds) == 2:
            return np.array([len(positions)])
        bound_ranks = np.searchsorted(positions, self.bounds)
        return bound_ranks[1:] - bound_ranks[:-1]


@lru_cache(maxsize=4)
def _powers(base: int, bits: int) -> NDArray[np.uint64]:
    table = np.full(1 << bits, base, np.uint64)
    table[0] = 1
    return np.cumprod(table, dtype=np.uint64)


def read_words(texts: Sequence[str]) -> Words:
    """Split a batch of texts into runs; NUL counts as a space, a lone surrogate as a question mark.

    Examples
    --------
    >>> words = read_words(["Ab 12"])
    >>> words.kind.tolist()
    [1, 3, 2, 2]
    >>> bool(words.hashes[0] == word_hash("aB"))
    True
    """
    joined = "\0" + "\0".join(texts) + "\0" * _PAD
    if joined.count("\0") != len(texts) + _PAD:
        joined = "\0" + "\0".join(t.replace("\0", " ") for t in texts) + "\0" * _PAD
    buffer = np.frombuffer(joined.encode("utf-8", "replace"), np.uint8)
    end = len(buffer) - _PAD + 1
    kind = _CLASS[buffer[:end]]
    cut = kind[1:] != kind[:-1]
    cut |= (kind[1:] & 1) == 0  # boundaries, digits and signs are runs of one byte
    edge = np.flatnonzero(cut)
    edge += 1
    run_kind = kind[edge]
    boundary = run_kind == BOUNDARY
    bounds = np.concatenate((_FIRST, edge[boundary]))
    text = np.cumsum(boundary)
    bits = max(18, int(end + 1).bit_length())
    hashed = np.zeros(end + 1, np.uint64)
    np.cumsum(_LOWER64[buffer[:end]] * _powers(_BASE, bits)[:end], out=hashed[1:])
    start, stop = edge[:-1], edge[1:]
    hashes = (hashed[stop] - hashed[start]) * _powers(_INVERSE, bits)[start]
    inside = ~boundary[:-1]
    length = stop - start
    if not inside.all():
        start, length, hashes = start[inside], length[inside], hashes[inside]
        text, run_kind = text[:-1][inside], run_kind[:-1][inside]
    else:
        text, run_kind = text[:-1], run_kind[:-1]
    return Words(buffer, bounds, text, run_kind, start, length, hashes)


def chunks(texts: Sequence[str], size: int = _CHUNK_BYTES) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield pieces of about `size` characters in order: the number of the first text, and the texts."""
    start = total = 0
    for stop, text in enumerate(texts):
        if total and total + len(text) > size:
            yield start, texts[start:stop]
            start, total = stop, 0
        total += len(text)
    if start < len(texts):
        yield start, texts[start:]


def word_hash(word: str) -> int:
    """Return the hash of a word in `read_words`."""
    value = power = 0
    for power, byte in enumerate(word.encode("utf-8")):
        value += int(_LOWER[byte]) * pow(_BASE, power, 2**64)
    return value % 2**64
