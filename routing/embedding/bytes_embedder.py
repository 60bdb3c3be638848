"""The `bytes` embedder: hashed words with vectors fitted in closed form to a slower model's embeddings.

The fit is one ridge regression on the history: with X the rows of weighted word counts (unit length), E the
slower model's embeddings, the table is ``T = (X'X + lam I)^-1 X'(E - mean E)``, projected on the first
principal axes of its own output. Embedding is then a sparse product: tens of microseconds a text, from bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from routing.arrays import Float32Array
from routing.embedding.query_batch import QueryBatch
from routing.embedding.text_features import WIDTH, features_of
from routing.embedding.unit_vectors import normalised
from routing.embedding.word_hashing import SPACE, Words, chunks, read_words

if TYPE_CHECKING:
    import scipy.sparse as sp

_HASH_BITS = 16
_MIX = np.uint64(0x9E3779B97F4A7C15)
BYTES_FILE = "bytes_embedder.npz"

LARGEST_VOCABULARY = 12_000
"""Maximum V. The fit factors a dense V x V matrix: 600 MB and about 15 s per core at this size."""

SMALLEST_COUNT = 3
"""Texts that must contain a word."""

SMALLEST_HISTORY = 1_000
"""Minimum number of texts. With fewer, many words of new prompts are unknown; a static table is better."""


@dataclass(frozen=True)
class BytesEmbedder:
    """An embedder that needs neither tokenizer nor neural model once it is fitted.

    Parameters
    ----------
    row : ndarray of int32, shape [65536]
        Row of the table for each hash, -1 for a word that too few history texts had.
    weight : ndarray of float32, shape [V]
        Inverse document frequency of each row, log(n / df) + 1.
    table : ndarray of float32, shape [V, d]
        Vector of each word.
    mean : ndarray of float32, shape [d]
        Vector of a text without known words, before normalisation.
    """

    row: NDArray[np.int32]
    weight: Float32Array
    table: Float32Array
    mean: Float32Array

    @property
    def identity(self) -> str:
        """Name and digest; the digest rejects a history that another table embedded."""
        digest = hashlib.sha256()
        for array in (self.row, self.weight, self.table, self.mean):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"bytes-{self.dimension}-{digest.hexdigest()[:16]}"

    @property
    def dimension(self) -> int:
        """Length d of an embedding."""
        return int(self.table.shape[1])

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """Return unit embeddings [n, d] with the features of `routing.embedding.text_features`, in one pass.

        Rows do not depend on each other.
        """
        embeddings = np.empty((len(prompts), self.dimension), np.float32)
        features = np.empty((len(prompts), WIDTH))
        for start, part in chunks(prompts):
            words = read_words(part)
            rows = slice(start, start + len(part))
            text, row = self._known_words(words)
            sums = self._sum_of_one(row) if len(part) == 1 else self._sums(text, row, len(part))
            embeddings[rows] = normalised(sums + self.mean)
            features[rows] = features_of(words)
        return QueryBatch(prompts, embeddings, features)

    def _sums(self, text: NDArray[np.intp], row: NDArray[np.int32], texts: int) -> Float32Array:
        """Return the weighed sum of the vectors of each text's words, [texts, d]."""
        import scipy.sparse as sp

        bag = sp.csr_matrix(
            (np.ones(len(row), np.float32), row, _pointers(text, texts)), (texts, len(self.weight))
        )
        bag.sum_duplicates()
        sums: Float32Array = _weigh(bag, self.weight) @ self.table
        return sums

    def _sum_of_one(self, row: NDArray[np.int32]) -> Float32Array:
        """Return the same sum for one text, [d], bit for bit, without the overhead of sparse matrices."""
        if not len(row):
            return np.zeros(self.dimension, np.float32)
        rows, count = np.unique(row, return_counts=True)
        data = np.log1p(count.astype(np.float32)) * self.weight[rows]
        squares = data * data
        data /= np.sqrt(np.add.reduceat(np.append(squares, np.float32(0)), [0]))
        # over the first axis, in order: as the sparse product adds
        sums: Float32Array = np.add.reduce(data[:, None] * self.table[rows], axis=0)
        return sums

    def _known_words(self, words: Words) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        solid = words.kind != SPACE
        row = self.row[_top_bits(words.hashes[solid])]
        known = row >= 0
        return words.text[solid][known], row[known]

    def save(self, folder: Path) -> None:
        """Write the table (about 2 V d bytes: it is stored as float16) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / BYTES_FILE,
            row=self.row,
            weight=self.weight,
            table=self.table.astype(np.float16),
            mean=self.mean,
        )

    @classmethod
    def load(cls, folder: Path) -> BytesEmbedder:
        """Read a table written by `save`.

        Raises
        ------
        FileNotFoundError
            When the folder holds none.
        """
        path = folder / BYTES_FILE
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: no bytes embedder here; run `python -m routing fit --preset fast`"
            )
        with np.load(path) as stored:
            return cls(stored["row"], stored["weight"], stored["table"].astype(np.float32), stored["mean"])


def vocabulary_size(texts: Sequence[str], smallest_count: int = SMALLEST_COUNT) -> int:
    """Return the number of words that a table fitted to these texts would have."""
    frequency = np.bincount(_history_bag(texts).indices, minlength=1 << _HASH_BITS)
    return min(LARGEST_VOCABULARY, int((frequency >= smallest_count).sum()))


def fit_bytes(
    texts: Sequence[str],
    embeddings: Float32Array,
    dimension: int = 256,
    smallest_count: int = SMALLEST_COUNT,
    ridge: float = 1.0,
) -> BytesEmbedder:
    """Fit the word vectors to a slower model's embeddings of the history.

    Parameters
    ----------
    texts : sequence of str, length H
        The history's texts.
    embeddings : ndarray of float32, shape [H, D]
        Their unit embeddings.
    dimension : int
        Principal axes to keep, at most D.
    smallest_count : int
        Number of texts that must contain a word.
    ridge : float
        lam of the module's formula.

    Raises
    ------
    ValueError
        Lengths differ, or no word is in enough texts.
    """
    from scipy.linalg import cho_factor, cho_solve

    if len(texts) != len(embeddings):
        raise ValueError(f"embeddings: {len(embeddings)} rows for {len(texts)} texts")
    bag = _history_bag(texts)
    frequency = np.bincount(bag.indices, minlength=1 << _HASH_BITS)
    vocabulary = np.flatnonzero(frequency >= smallest_count)
    if not len(vocabulary):
        raise ValueError(
            f"texts: no word is in {smallest_count} of the {len(texts)} history texts; "
            "use the static embedder"
        )
    if len(vocabulary) > LARGEST_VOCABULARY:
        order = np.argsort(-frequency[vocabulary], kind="stable")[:LARGEST_VOCABULARY]
        vocabulary = np.sort(vocabulary[order])
    row = np.full(1 << _HASH_BITS, -1, np.int32)
    row[vocabulary] = np.arange(len(vocabulary))
    weight = (np.log(len(texts) / frequency[vocabulary]) + 1).astype(np.float32)
    rows = _weigh(bag[:, vocabulary], weight)
    mean = embeddings.mean(axis=0)
    gram = (rows.T @ rows).toarray()
    gram[np.diag_indices_from(gram)] += ridge
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    table = cho_solve(factor, rows.T @ (embeddings - mean)).astype(np.float32)
    if dimension < table.shape[1]:
        fitted = rows @ table
        axes = np.linalg.eigh(fitted.T @ fitted)[1][:, : -dimension - 1 : -1].astype(np.float32)
        table, mean = table @ axes, mean @ axes
    # Stored as float16: the fitted and the loaded embedder must be equal.
    table = table.astype(np.float16).astype(np.float32)
    return BytesEmbedder(row, weight, table, mean.astype(np.float32))


def _history_bag(texts: Sequence[str]) -> sp.csr_matrix:
    import scipy.sparse as sp

    parts = []
    for _, part in chunks(texts):
        words = read_words(part)
        solid = words.kind != SPACE
        column = _top_bits(words.hashes[solid])
        shape = (len(part), 1 << _HASH_BITS)
        pointers = _pointers(words.text[solid], len(part))
        parts.append(sp.csr_matrix((np.ones(len(column), np.float32), column, pointers), shape))
        parts[-1].sum_duplicates()
    return sp.vstack(parts, format="csr")


def _top_bits(hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    return ((hashes * _MIX) >> np.uint64(64 - _HASH_BITS)).astype(np.intp)


def _pointers(text: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    pointers = np.zeros(n + 1, np.intp)
    np.cumsum(np.bincount(text, minlength=n), out=pointers[1:])
    return pointers


def _weigh(bag: sp.csr_matrix, weight: Float32Array) -> sp.csr_matrix:
    """Weigh words by log(1 + count) and scale rows to unit length."""
    data = np.log1p(bag.data) * weight[bag.indices]
    filled = np.diff(bag.indptr)
    length = np.sqrt(np.add.reduceat(np.r_[data * data, np.float32(0)], bag.indptr[:-1]))
    length[filled == 0] = 1
    data /= np.repeat(length, filled)
    return type(bag)((data, bag.indices, bag.indptr), bag.shape)
