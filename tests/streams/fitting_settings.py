"""A catalogue, a history and settings that fit together."""

from pathlib import Path

import numpy as np
import pytest

from routing.embedding.embedder import load_embedder
from routing.history.history import EmbeddedHistory, History
from streams.config.settings import Settings
from streams.worker.preflight import ConfigReport


def unset_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all variables of settings from the environment."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PORT_{name.upper()}", raising=False)
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


def write_fitting_files(folder: Path) -> Path:
    """Write a catalogue and a history of the same LLMs, and return the folder."""
    (folder / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a, b]\nsettings: {eps: 0.5}\n")
    history = History(["x", "y"], ["p", "q"], ["t", "t"], ["a", "b"], np.ones((2, 2)), np.ones((2, 2)))
    embedder = load_embedder().identity
    EmbeddedHistory(history, np.eye(2, dtype=np.float32), embedder).save(folder / "history")
    return folder


def fitting(folder: Path) -> dict[str, object]:
    """Return settings for the files of a folder."""
    return {
        "catalogue": folder / "catalogue.yaml",
        "history": folder / "history",
        "bootstrap_servers": "localhost:9092",
        "data_dir": folder / "data",
    }


def sources(report: ConfigReport) -> dict[str, tuple[str, str]]:
    """Return value and source of each setting, by name."""
    return {row.name: (row.value, row.source) for row in report.effective}
