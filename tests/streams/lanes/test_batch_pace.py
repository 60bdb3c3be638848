"""Batch sizes follow the measured time per record."""

import pytest

from streams.lanes.batch_pace import FIRST_BATCH_RECORDS, BatchPace


def test_batch_pace_single_record_is_not_measured():
    pace = BatchPace()
    pace.record(0.5, 1)
    assert pace.max_records == FIRST_BATCH_RECORDS


def test_batch_pace_overhead_of_transactions_keeps_no_batch_small():
    pace = BatchPace()
    for _ in range(20):
        pace.record(0.08 + 1e-4 * pace.max_records, pace.max_records)
    assert pace.max_records > 1000


def test_batch_pace_slow_embedder_shrinks_batches():
    pace = BatchPace()
    pace.record(0.1, 1000)
    for _ in range(40):  # an embedder that takes 50 ms a text
        pace.record(0.05 + 0.05 * pace.max_records, pace.max_records)
    assert pace.max_records == pytest.approx(20, abs=4)
