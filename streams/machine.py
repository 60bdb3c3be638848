"""How a worker uses its machine: garbage collector, threads of the numeric libraries, the way of a search."""

from __future__ import annotations

import gc
import os
import time

import numpy as np
import structlog
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from routing.index import NeighbourIndex, crossing

log = structlog.get_logger(__name__)

MEASURED_FROM = 2**20
"""Numbers in a history's embeddings from which it matters how a few queries are searched."""

COLLECT_AT = (50_000, 20, 50)
"""New objects, and collections of younger ones, at which the garbage collector looks for cycles."""


def spare_collector() -> None:
    """Let the garbage collector look at what came since the start, and not at every few hundred records.

    Records are freed by counting their references; looking for cycles among tens of thousands of them that
    wait took a third of a lane's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)


def threads_a_lane(lanes: int) -> int:
    """Threads that BLAS and OpenMP may use for one lane's batch: the cores are shared by all lanes.

    Each lane's search on all cores at once makes twice as many threads as cores spin for each other.
    """
    # where there is no affinity to ask for (macOS), all cores are ours
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, lanes))


def limit_threads(lanes: int) -> None:
    """To be called in each thread that works for lanes; `OMP_NUM_THREADS` in the environment goes before."""
    if "OMP_NUM_THREADS" not in os.environ:
        threadpool_limits(threads_a_lane(lanes))


def fit_search(embeddings: NDArray[np.float32]) -> None:
    """Search small batches in the way that is faster on this machine; takes some tens of milliseconds.

    Parameters
    ----------
    embeddings : ndarray of float32, shape [H, d]
        The history's.
    """
    if embeddings.size < MEASURED_FROM:
        return
    with threadpool_limits(1):
        NeighbourIndex.product_from = crossing(embeddings, time.perf_counter)
    log.info("search_measured", product_from=NeighbourIndex.product_from)
