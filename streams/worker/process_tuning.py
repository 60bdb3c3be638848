"""Tuning of the process: garbage collector, threads of numeric libraries, neighbour search."""

from __future__ import annotations

import gc
import os
import time

import numpy as np
import structlog
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from routing.history.nearest import NeighbourIndex, crossing
from streams.config.cpus import library_threads, usable_cpus

log = structlog.get_logger(__name__)

MIN_MEASURED_NUMBERS = 2**20
"""Minimum size of a history's embeddings for which the search is measured."""

COLLECTOR_THRESHOLDS = (50_000, 20, 50)
"""Allocations, and collections of younger generations, that start a garbage collection."""


def tune_garbage_collector() -> None:
    """Exclude present objects from garbage collection, and collect new ones less often.

    Reference counting frees records. The search for cycles among tens of thousands of waiting records would
    take a third of a lane's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def threads_per_lane(lanes: int) -> int:
    """Return the threads that BLAS and OpenMP may use for one lane's batch.

    All lanes share the cores. If each used all of them, threads would spin while they wait for each other.
    """
    return max(1, usable_cpus() // max(1, lanes))


def limit_threads(lanes: int) -> None:
    """Limit the libraries' threads, unless `OMP_NUM_THREADS` is set.

    OpenMP's limit is that of the calling thread, OpenBLAS' that of the process. Call it in the main thread
    and in each lane's.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        threadpool_limits(threads_per_lane(lanes))


def limit_process() -> None:
    """Limit loaded libraries to the CPUs that this process may use; call it in the main thread."""
    if (threads := library_threads()) is not None:
        threadpool_limits(threads)


def calibrate_neighbour_search(embeddings: NDArray[np.float32]) -> None:
    """Measure which search is faster for small batches, and use it; takes some tens of milliseconds.

    Parameters
    ----------
    embeddings : ndarray of float32, shape [H, d]
        Embeddings of the history.
    """
    if embeddings.size < MIN_MEASURED_NUMBERS:
        return
    with threadpool_limits(1):
        NeighbourIndex.product_from = crossing(embeddings, time.perf_counter)
    log.info("search_measured", product_from=NeighbourIndex.product_from)
