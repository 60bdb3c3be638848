"""Start, memory and time of a decision by the length of the history, with preset `paper`.

    python -m benchmarks.history_size --json docs/results/history-size.json

The history is made up: vectors of 384 numbers around 200 centres, 11 LLMs, texts of 500 characters. Queries
carry their embeddings, so no model is loaded.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import synthetic_queries
from benchmarks.result_file import report
from benchmarks.startup import start_of_worker
from benchmarks.stream_run import Run
from infra.broker.native import native_cluster
from routing.embedding.embedder import load_embedder
from routing.embedding.query_batch import QueryBatch
from routing.estimators.neighbours import Neighbours
from routing.history.history import EmbeddedHistory
from streams.worker.process_tuning import calibrate_neighbour_search


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rows", default="2000,16000,64000,300000", help="[%(default)s]")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of each start; the median counts [%(default)s]"
    )
    arguments = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, native_cluster(1) as cluster:
        for rows in map(int, arguments.rows.split(",")):
            folder = Path(name) / f"history-{rows}"
            made_up = synthetic_queries.history(rows)
            # with the default embedder's identity, as if it had made the vectors
            history = EmbeddedHistory(made_up.history, made_up.embeddings, load_embedder().identity)
            del made_up
            history.save(folder)
            decisions = decision_times(history)
            del history
            run = Run(cluster.bootstrap_servers, Path(name), 4, 10**7, history=folder)
            run.variables |= {"PORT_PRESET": "paper", "PORT_EMBEDDER_LOADS": "first"}
            starts = [start_of_worker(run) for _ in range(arguments.rounds)]
            figures[str(rows)] = decisions | {
                key: median(start[key] for start in starts) for key in ("seconds", "rss_mb")
            }
            print(f"{rows} rows: {figures[str(rows)]}", file=sys.stderr, flush=True)
    report("history_size", arguments.json, {"rows": figures})
    return 0


def decision_times(history: EmbeddedHistory) -> dict[str, float]:
    """Return microseconds a query of an estimate by 5 neighbours in one thread, by size of the batch."""
    calibrate_neighbour_search(history.embeddings)
    estimator = Neighbours(history, k=5)
    queries = synthetic_queries.vectors(512, seed=5)
    figures = {}
    for size in (1, 256):
        batches = [
            QueryBatch([""] * len(queries[i : i + size]), queries[i : i + size])
            for i in range(0, len(queries), size)
        ]
        estimator.estimate(batches[0])
        rounds = []
        for _ in range(3):
            began = time.perf_counter()
            for batch in batches:
                estimator.estimate(batch)
            rounds.append(1e6 * (time.perf_counter() - began) / len(queries))
        figures[f"estimate_us_in_batches_of_{size}"] = round(min(rounds), 1)
    return figures


if __name__ == "__main__":
    raise SystemExit(main())
