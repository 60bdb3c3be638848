"""From records to queries with estimates: decode, embed, estimate; what cannot be used is refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from routing.decision import IntArray
from routing.embedding import Embedder
from routing.estimators.base import Estimates, Estimator, FloatArray, QueryBatch
from streams.backlog import Record
from streams.headers import admit_headers
from streams.messages import Query, Refused, decode_query, stack_embeddings

log = structlog.get_logger(__name__)

REMEMBERED = 20_000
"""Estimates that a lane keeps from warm-up until it routes."""


@dataclass
class Arrivals:
    """A batch of records, sorted into queries and refused ones.

    Parameters
    ----------
    records : list of Record, length n
        Those that are queries.
    queries : list of Query, length n
    estimates : Estimates
        [n, M], in the order of the estimator's LLMs, or of the plan's when deferred.
    refused : list of (Record, Refused)
    charge : ndarray of int64, shape [n, M], optional
        Picodollars to reserve, for deferred queries: as it was when they were deferred.
    answer_tokens : list of int or None, length n
        Beside `charge`: the tokens of an answer that it pays for, where it is a bound.
    sources : list of (partition, offset), optional
        Where deferred queries came from.
    """

    records: list[Record]
    queries: list[Query]
    estimates: Estimates
    refused: list[tuple[Record, Refused]] = field(default_factory=list)
    charge: IntArray | None = None
    answer_tokens: list[int | None] = field(default_factory=list)
    sources: list[tuple[int, int]] | None = None


class QueryIntake:
    """Takes records of the topic `queries`.

    Parameters
    ----------
    embedder : Embedder
        For queries that carry no embedding.
    dimension : int
        Length d of an embedding. The history's: asking the embedder may load its model, which takes longer
        than routing thousands of queries that carry their embeddings.
    estimator : Estimator
    admit : callable, optional
        Raises `Refused` for a query that this router does not take.
    """

    def __init__(
        self,
        embedder: Embedder,
        dimension: int,
        estimator: Estimator,
        admit: Callable[[Query], None] | None = None,
    ) -> None:
        self.embedder, self.dimension, self.estimator, self.admit = embedder, dimension, estimator, admit
        self.models: tuple[str, ...] | None = estimator.models
        self._known: OrderedDict[int, tuple[FloatArray, FloatArray]] = OrderedDict()

    def take(self, records: Sequence[Record], *, remember: bool = False) -> Arrivals:
        """Decode and estimate a batch.

        Parameters
        ----------
        records : sequence of Record
        remember : bool
            Keep the estimates until the same offsets are taken again: the lane only samples now.
        """
        good, queries, refused = [], [], []
        for record in records:
            try:
                if record.headers:
                    admit_headers(record.headers)
                query = decode_query(record.value, self.dimension)
                if self.admit is not None:
                    self.admit(query)
                queries.append(query)
                good.append(record)
            except Refused as error:
                refused.append((record, error))
        estimates, bad = self._estimates(good, queries)
        if bad:
            refused += [(good[row], error) for row, error in bad.items()]
            keep = np.array([row for row in range(len(good)) if row not in bad], dtype=np.intp)
            good, queries = [good[row] for row in keep], [queries[row] for row in keep]
            estimates = estimates.rows(keep)
        if remember:
            self._remember(good, estimates)
        return Arrivals(good, queries, estimates, refused)

    def forget(self) -> None:
        """Drop remembered estimates."""
        self._known.clear()

    def _estimates(self, records: list[Record], queries: list[Query]) -> tuple[Estimates, dict[int, Refused]]:
        if queries and not self._known:
            batch, bad = self._embed(queries)
            return self.estimator.estimate(batch), bad
        models = len(self.estimator.models)
        quality, cost = np.zeros((len(queries), models)), np.ones((len(queries), models))
        unknown = []
        for row, record in enumerate(records):
            if (known := self._known.pop(record.offset, None)) is None:
                unknown.append(row)
            else:
                quality[row], cost[row] = known
        bad = {}
        if unknown:
            rows = np.array(unknown, dtype=np.intp)
            batch, refused = self._embed([queries[row] for row in unknown])
            bad = {unknown[row]: error for row, error in refused.items()}
            fresh = self.estimator.estimate(batch)
            quality[rows], cost[rows] = fresh.quality, fresh.cost
        return Estimates(quality, cost), bad

    def _embed(self, queries: list[Query]) -> tuple[QueryBatch, dict[int, Refused]]:
        """Embeddings that the messages carry, and for the others the embedder's."""
        prompts = [query.prompt for query in queries]
        carried = stack_embeddings(queries, self.dimension)
        if carried.missing.all():
            return self._embed_texts(prompts)
        matrix, bad = carried.matrix, dict(carried.refused)
        if (rows := np.flatnonzero(carried.missing)).size:
            batch, refused = self._embed_texts([prompts[row] for row in rows])
            matrix[rows] = batch.embeddings
            bad |= {int(rows[row]): error for row, error in refused.items()}
        return QueryBatch(prompts, matrix), bad

    def _embed_texts(self, prompts: list[str]) -> tuple[QueryBatch, dict[int, Refused]]:
        try:
            return self.embedder.embed(prompts), {}
        except Exception as error:
            log.warning("embedding_failed", queries=len(prompts), reason=repr(error))
            return self._embed_singly(prompts)

    def _embed_singly(self, prompts: list[str]) -> tuple[QueryBatch, dict[int, Refused]]:
        """One text that the embedder cannot take must not stop the others; a broken embedder must stop us."""
        self.embedder.embed(["Does the embedder work at all?"])
        matrix: NDArray[np.float32] = np.zeros((len(prompts), self.dimension), dtype=np.float32)
        bad: dict[int, Refused] = {}
        for row, prompt in enumerate(prompts):
            try:
                matrix[row] = self.embedder.embed([prompt]).embeddings[0]
            except Exception as error:
                bad[row] = Refused("embed", "prompt", f"the embedder failed on it: {error!r}")
        return QueryBatch(prompts, matrix), bad

    def _remember(self, records: list[Record], estimates: Estimates) -> None:
        for row, record in enumerate(records):
            self._known[record.offset] = (estimates.quality[row], estimates.cost[row])
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
