"""Intake of queries: decode, embed and estimate records; reject invalid ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import structlog
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.embedding.embedder import Embedder
from routing.embedding.missing_embedder import MissingEmbedderError
from routing.embedding.query_batch import (
    QueryBatch,
)
from routing.estimators.base import (
    Estimates,
    Estimator,
)
from routing.feedback.clusters import TaskClusters
from routing.feedback.plan_correction import UNKNOWN_CLUSTER
from streams.messages.headers import validate_headers
from streams.messages.query import (
    Query,
    decode_query,
    stack_embeddings,
)
from streams.messages.record import (
    Record,
)
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.router.batch import IntakeBatch
from streams.router.estimate_cache import EstimateCache, unpack
from streams.router.field_notes import FieldNotes

log = structlog.get_logger(__name__)

MAX_REMEMBERED_ESTIMATES = 20_000
"""Estimates that a lane keeps from warm-up until it routes the queries."""


class QueryIntake:
    """Decodes records of the topic `queries`.

    Parameters
    ----------
    embedder : Embedder
        For queries that carry no embedding.
    dimension : int
        Length d of an embedding, from the history. The embedder may have to load its model first, which takes
        longer than routing thousands of queries that carry embeddings.
    estimator : Estimator
    admit : callable, optional
        Raises `RejectedMessage` for a query that this router does not accept.
    max_remembered : int, optional
        Estimates that are kept from warm-up.
    notes : FieldNotes, optional
        Shared by the lanes of a worker.
    cache : EstimateCache, optional
        Shared by the lanes of a worker; none by default.
    clusters : TaskClusters, optional
        Of the history, if estimates are corrected by reported quality.
    """

    def __init__(
        self,
        embedder: Embedder,
        dimension: int,
        estimator: Estimator,
        admit: Callable[[Query], None] | None = None,
        max_remembered: int = MAX_REMEMBERED_ESTIMATES,
        notes: FieldNotes | None = None,
        cache: EstimateCache | None = None,
        clusters: TaskClusters | None = None,
    ) -> None:
        self.embedder, self.dimension, self.estimator, self.admit = embedder, dimension, estimator, admit
        self.models: tuple[str, ...] | None = estimator.models
        self._max_remembered = max_remembered
        self._notes = notes or FieldNotes()
        self._cache = EstimateCache(0) if cache is None else cache
        self.clusters = "" if clusters is None else clusters.digest
        self._clusters = clusters
        self._remembered: OrderedDict[int, tuple[FloatArray, FloatArray, int]] = OrderedDict()

    def decode(self, records: Sequence[Record], *, remember: bool = False) -> IntakeBatch:
        """Decode and estimate a batch.

        Parameters
        ----------
        records : sequence of Record
        remember : bool
            Keep the estimates until the same offsets are decoded again, because the lane only samples now.
        """
        good, queries, refused = [], [], []
        for record in records:
            try:
                if record.headers:
                    validate_headers(record.headers)
                query = decode_query(record.value, self.dimension)
                if self.admit is not None:
                    self.admit(query)
                self._notes.note(query)
                queries.append(query)
                good.append(record)
            except RejectedMessage as error:
                refused.append((record, error))
        estimates, bad = self._estimates(good, queries)
        if bad:
            refused += [(good[row], error) for row, error in bad.items()]
            keep = np.array([row for row in range(len(good)) if row not in bad], dtype=np.intp)
            good, queries = [good[row] for row in keep], [queries[row] for row in keep]
            estimates = estimates.rows(keep)
        if remember:
            self._remember(good, estimates)
        return IntakeBatch(good, queries, estimates, refused)

    def forget(self) -> None:
        """Drop remembered estimates."""
        self._remembered.clear()

    def _estimates(
        self, records: list[Record], queries: list[Query]
    ) -> tuple[Estimates, dict[int, RejectedMessage]]:
        models = len(self.estimator.models)
        quality, cost = np.zeros((len(queries), models)), np.ones((len(queries), models))
        cluster = np.full(len(queries), UNKNOWN_CLUSTER)
        rows = np.arange(len(queries))
        if self._remembered:
            rows = self._recall(records, quality, cost, cluster)
        unestimated = queries if len(rows) == len(queries) else [queries[row] for row in rows]
        keys, known = self._cache.find(unestimated)
        if known:
            cached = rows[list(known)]
            quality[cached], cost[cached], cluster[cached] = unpack(list(known.values()))
            fresh = [number for number in range(len(rows)) if number not in known]
            rows, keys = rows[fresh], [keys[number] for number in fresh]
        bad = {}
        if len(rows):
            batch, refused = self._embed([queries[row] for row in rows])
            bad = {int(rows[number]): error for number, error in refused.items()}
            estimates = self._estimate(batch)
            quality[rows], cost[rows] = estimates.quality, estimates.cost
            if estimates.cluster is not None:
                cluster[rows] = estimates.cluster
            self._cache.put(keys, estimates, cluster[rows], refused)
        return Estimates(quality, cost, None if self._clusters is None else cluster), bad

    def _recall(
        self, records: list[Record], quality: FloatArray, cost: FloatArray, cluster: IntArray
    ) -> NDArray[np.intp]:
        """Fill in the estimates that are remembered, and return the rows of the other queries."""
        unknown = []
        for row, record in enumerate(records):
            if (estimates := self._remembered.pop(record.offset, None)) is None:
                unknown.append(row)
            else:
                quality[row], cost[row], cluster[row] = estimates
        return np.array(unknown, dtype=np.intp)

    def _estimate(self, batch: QueryBatch) -> Estimates:
        """Return the estimates of a batch, with its clusters."""
        estimates = self.estimator.estimate(batch)
        if self._clusters is None:
            return estimates
        return replace(estimates, cluster=self._clusters.nearest(batch.embeddings))

    def _embed(self, queries: list[Query]) -> tuple[QueryBatch, dict[int, RejectedMessage]]:
        """Return the embeddings that messages carry, and embed the other prompts."""
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

    def _embed_texts(self, prompts: list[str]) -> tuple[QueryBatch, dict[int, RejectedMessage]]:
        try:
            return self.embedder.embed(prompts), {}
        except MissingEmbedderError as error:
            refused = RejectedMessage(RejectionReason.EMBEDDER_FAILED, "prompt", error=str(error))
            matrix = np.zeros((len(prompts), self.dimension), dtype=np.float32)
            return QueryBatch(prompts, matrix), dict.fromkeys(range(len(prompts)), refused)
        except Exception as error:
            log.warning("embedding_failed", queries=len(prompts), reason=repr(error))
            return self._embed_singly(prompts)

    def _embed_singly(self, prompts: list[str]) -> tuple[QueryBatch, dict[int, RejectedMessage]]:
        """Embed prompts one by one and reject those that fail; raise if the embedder does not work at all."""
        self.embedder.embed(["Does the embedder work at all?"])
        matrix: NDArray[np.float32] = np.zeros((len(prompts), self.dimension), dtype=np.float32)
        bad: dict[int, RejectedMessage] = {}
        for row, prompt in enumerate(prompts):
            try:
                matrix[row] = self.embedder.embed([prompt]).embeddings[0]
            except Exception as error:
                bad[row] = RejectedMessage(RejectionReason.EMBEDDER_FAILED, "prompt", error=repr(error))
        return QueryBatch(prompts, matrix), bad

    def _remember(self, records: list[Record], estimates: Estimates) -> None:
        for row, record in enumerate(records):
            cluster = UNKNOWN_CLUSTER if estimates.cluster is None else int(estimates.cluster[row])
            self._remembered[record.offset] = (estimates.quality[row], estimates.cost[row], cluster)
        while len(self._remembered) > self._max_remembered:
            self._remembered.popitem(last=False)
