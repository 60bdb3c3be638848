"""Replacing the history of a running router, by the procedure of docs/operations.md.

Needs Apache Kafka (the fixture `kafka` finds or starts it).
"""

from pathlib import Path

import numpy as np

from routing.history.history import EmbeddedHistory
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import assert_whole
from tests.end_to_end.small_dataset import Small


def save_part(small: Small, folder: Path, rows: range, embedder: str | None = None) -> Path:
    """Save a part of the history to a folder, and return the folder."""
    prepared = small.prepared.history
    EmbeddedHistory(
        prepared.history.select(np.array(rows)),
        prepared.embeddings[rows.start : rows.stop],
        embedder or prepared.embedder,
    ).save(folder)
    return folder


def test_workers_replaced_one_by_one_with_a_newer_history_keep_prices(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    stream = router(partitions=2)
    old = [stream.start(ready=True), stream.start()]
    stream.send(range(300))
    stream.all_landed()
    before = stream.plan()
    assert before.learned
    newer = save_part(small, tmp_path / "newer", range(400, 1400))
    for number, worker in enumerate(old):
        assert worker.stop() == 0
        stream.start(history=newer, ready=True)
        stream.send(range(300 + 100 * number, 400 + 100 * number))
    stream.all_landed()
    assert_whole(stream)
    digests = {event["digest"] for worker in stream.workers for event in worker.events("history_loaded")}
    assert len(digests) == 2
    after = stream.plan()
    assert after.version == before.version, "prices are learned again in the next period, or by resolving"


def test_worker_with_a_history_of_another_embedding_model_does_not_start(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    stream = router()
    worker = stream.start(history=save_part(small, tmp_path / "other", range(400), "st-of-another-model"))
    assert worker.wait(60) == 1
    assert "st-of-another-model" in worker.log.read_text()
    assert not worker.logged("lane_open")
