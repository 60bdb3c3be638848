"""A router worker for the benchmarks: made-up history, chosen estimator; writes its stages when it ends."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import orjson

from benchmarks import load
from routing.estimators.base import Estimates, QueryBatch
from routing.estimators.neighbours import Neighbours
from routing.history import EmbeddedHistory
from streams.estimating import Estimating, load_estimating
from streams.logs import configure_logs
from streams.settings import Settings
from streams.starting import run
from streams.worker import Router


class Constant:
    """Always the same estimate: what is left is the transport."""

    models = load.MODELS

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
    """The embedder of queries that carry their embeddings: never asked."""

    identity = "made-up"
    dimension = load.DIMENSION

    def embed(self, prompts: object) -> QueryBatch:
        raise RuntimeError("a benchmark's query carries no embedding")


def estimating(kind: str, rows: int) -> Estimating:
    """`constant`, or neighbours such as `knn5` and `knn50` on a history of so many rows."""
    if kind == "constant":
        return Estimating(Carried(), Constant(64), load.history(64))
    made: EmbeddedHistory = load.history(rows)
    k = int(kind.removeprefix("knn"))
    return Estimating(Carried(), Neighbours(made, k=k, weights="uniform" if k == 5 else "similarity"), made)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--estimator", default="constant")
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--stages", type=Path, required=True)
    arguments = parser.parse_args()
    settings = Settings()
    configure_logs("warning", settings.log_format)
    if settings.history is None:
        made = estimating(arguments.estimator, arguments.rows)
    else:
        made = load_estimating(settings, settings.read_catalogue())
        made.embedder.embed(["What is loaded at first use is loaded before the clock runs."])
    router = Router(settings, made)
    status = run(router)
    arguments.stages.write_bytes(orjson.dumps(router.stages.snapshot()))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
