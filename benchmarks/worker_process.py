"""Router worker for benchmarks: synthetic history, chosen estimator; writes its stage times when it ends."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import orjson

from benchmarks import synthetic_queries
from routing.embedding.query_batch import (
    QueryBatch,
)
from routing.estimators.base import (
    Estimates,
)
from routing.estimators.neighbours import Neighbours
from routing.history.history import EmbeddedHistory
from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.router.estimation import Estimation, load_estimation
from streams.worker.startup import run
from streams.worker.worker import Worker


class Constant:
    """Constant estimates, so that only the transport is measured."""

    models = synthetic_queries.MODELS

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._quality = np.zeros(len(self.models))
        self._quality[0] = 0.5

    def estimate(self, batch: QueryBatch) -> Estimates:
        n = len(batch)
        return Estimates(np.tile(self._quality, (n, 1)), np.full((n, len(self.models)), 1e-6))

    def leave_one_out(self) -> Estimates:
        return Estimates(
            np.tile(self._quality, (self._rows, 1)), np.full((self._rows, len(self.models)), 1e-6)
        )


class Carried:
    """Embedder for queries that carry embeddings; it is never called."""

    identity = "made-up"
    dimension = synthetic_queries.DIMENSION

    def embed(self, prompts: object) -> QueryBatch:
        raise RuntimeError("a benchmark's query carries no embedding")


def estimating(kind: str, rows: int) -> Estimation:
    """Return the estimator `constant`, or neighbours such as `knn5` or `knn50` on a synthetic history."""
    if kind == "constant":
        return Estimation(Carried(), Constant(64), synthetic_queries.history(64))
    history: EmbeddedHistory = synthetic_queries.history(rows)
    k = int(kind.removeprefix("knn"))
    return Estimation(
        Carried(), Neighbours(history, k=k, weights="uniform" if k == 5 else "similarity"), history
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--estimator", default="constant")
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--stages", type=Path, required=True)
    arguments = parser.parse_args()
    settings = Settings()
    configure_logs("warning", settings.log_format)
    if settings.history is None:
        estimation = estimating(arguments.estimator, arguments.rows)
    else:
        estimation = load_estimation(settings, settings.read_catalogue())
        estimation.warm_up()
    router = Worker(settings, estimation)
    status = run(router)
    arguments.stages.write_bytes(orjson.dumps(router.stages.snapshot()))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
