"""Lanes' small batches share an estimator's pass, each gets its own rows, and an error is for whom it is."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from routing.estimators.base import Estimates, QueryBatch
from streams.joint_estimates import JointEstimator


class Gated:
    """Says of each query its first coordinate, once it is let."""

    models = ("a", "b")

    def __init__(self) -> None:
        self.sizes: list[tuple[int, bool]] = []
        self.busy, self.gate = threading.Semaphore(0), threading.Semaphore(0)

    def estimate(self, batch: QueryBatch) -> Estimates:
        self.sizes.append((len(batch), batch.counts is not None))
        self.busy.release()
        assert self.gate.acquire(timeout=30)
        if not np.isfinite(batch.embeddings).all():
            raise ValueError("embeddings: not finite")
        column = batch.embeddings[:, :1].astype(np.float64)
        return Estimates(np.hstack([column, column]), np.ones((len(batch), 2)))

    def leave_one_out(self) -> Estimates:
        return Estimates(np.zeros((1, 2)), np.ones((1, 2)))


def batch_of(*numbers: float, counts: bool = False) -> QueryBatch:
    matrix = np.array([[number, 0.0] for number in numbers], np.float32).reshape(-1, 2)
    return QueryBatch(["?"] * len(numbers), matrix, np.zeros((len(numbers), 3)) if counts else None)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait_until(joint: JointEstimator, count: int) -> None:
    deadline = threading.Event()
    for _ in range(3000):
        with joint._lock:
            if len(joint._waiting) == count:
                return
        deadline.wait(0.01)
    raise AssertionError(f"{len(joint._waiting)} wait, not {count}")


def joined(pool, joint: JointEstimator, gated: Gated, *batches: QueryBatch):
    """One batch is being estimated while the others come; their futures, once all are waiting."""
    first = pool.submit(joint.estimate, batch_of(0.5))
    assert gated.busy.acquire(timeout=30)
    futures = []
    for count, batch in enumerate(batches, 1):
        futures.append(pool.submit(joint.estimate, batch))
        wait_until(joint, count)
    for _ in range(20):
        gated.gate.release()
    assert first.result(30).quality.tolist() == [[0.5, 0.5]]
    return futures


def test_what_comes_meanwhile_is_estimated_together_and_each_gets_its_rows(pool):
    gated = Gated()
    futures = joined(pool, JointEstimator(gated), gated, batch_of(0.1, 0.2), batch_of(0.3), batch_of())
    found = [future.result(30).quality[:, 0].round(6).tolist() for future in futures]
    assert found == [[0.1, 0.2], [0.3], []]
    assert gated.sizes == [(1, False), (3, False)]


def test_counts_go_along_when_all_have_them(pool):
    gated = Gated()
    futures = joined(
        pool, JointEstimator(gated), gated, batch_of(0.1, counts=True), batch_of(0.3, counts=True)
    )
    assert all(future.result(30) for future in futures)
    assert gated.sizes[1] == (2, True)


def test_an_error_is_for_the_batch_that_made_it(pool):
    gated = Gated()
    good, bad = joined(pool, JointEstimator(gated), gated, batch_of(0.1), batch_of(np.nan))
    assert good.result(30).quality.shape == (1, 2)
    with pytest.raises(ValueError, match="not finite"):
        bad.result(30)
    assert sorted(gated.sizes[1:]) == [(1, False), (1, False), (2, False)]


def test_a_large_batch_waits_for_nobody(pool):
    gated = Gated()
    joint = JointEstimator(gated, small=2)
    first = pool.submit(joint.estimate, batch_of(0.5))
    assert gated.busy.acquire(timeout=30)
    large = pool.submit(joint.estimate, batch_of(0.1, 0.2, 0.3))
    assert gated.busy.acquire(timeout=30), "it is at work while the small one is"
    for _ in range(2):
        gated.gate.release()
    assert len(large.result(30)) == 3
    assert len(first.result(30)) == 1
