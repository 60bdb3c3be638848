"""The comparison with other routers: its data, a program's figures, and routers that cannot run."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peer_programs.measured import PeerInput
from benchmarks.peers import FIGURES, Peer, run
from routing.datasets.demo import load_demo

ROWS = 1000
"""The shortest history of preset `fast`."""


@pytest.fixture(scope="module")
def data() -> PeerInput:
    embedded, _ = load_demo()
    history, vectors = embedded.history, embedded.embeddings
    past, queries = slice(0, ROWS), slice(ROWS, ROWS + 20)
    return PeerInput(
        list(history.models),
        list(history.texts[past]),
        list(history.texts[queries]),
        vectors[past],
        vectors[queries],
        history.quality[past],
        history.cost[past],
        history.quality[queries],
        history.cost[queries],
        1e-4,
    )


def test_peer_input_that_was_saved_is_loaded(
    data: PeerInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data.save(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program", str(tmp_path)])

    for saved, loaded in zip(data, PeerInput.load(), strict=True):
        np.testing.assert_array_equal(saved, loaded)


def test_run_of_this_router_reports_every_figure(data: PeerInput, tmp_path: Path):
    data.save(tmp_path)

    row = run(Peer("fast", "port_router fast"), tmp_path, rounds=1)

    assert all(row.get(name, 0) > 0 for name in FIGURES), row
    assert row["decision_us_p50"] <= row["decision_us_p99"]


def test_run_of_a_router_that_fails_is_skipped_with_its_reason(tmp_path: Path):
    row = run(Peer("gone", "no_such_program"), tmp_path, rounds=1)

    assert "No module named benchmarks.peer_programs.no_such_program" in row["skipped"]
