"""Fixtures for preflight checks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from routing.fitting.fit import (
    fit,
)
from routing.fitting.presets import PRESETS
from routing.fitting.saved_fit import (
    FitFacts,
    save_fitted,
)
from routing.history.history import EmbeddedHistory, History
from streams.worker.preflight import ConfigReport, check_config
from tests.streams.fitting_settings import unset_settings, write_fitting_files


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch):
    unset_settings(monkeypatch)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ConfigReport]:
    def run(connect: bool = False, **variables: object) -> ConfigReport:
        environment = {f"PORT_{name.upper()}": str(value) for name, value in variables.items()}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return check_config(environment, connect=connect)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a catalogue and a history that fit together."""
    return write_fitting_files(tmp_path)


@pytest.fixture
def fitted(folder: Path) -> Path:
    """Return the folder, with a fit of its history for preset `best`."""
    history = EmbeddedHistory.load(folder / "history")
    rows = np.resize(np.eye(384, dtype=np.float32), (40, 384))
    known = History(
        [f"i{i}" for i in range(40)],
        ["p"] * 40,
        ["t"] * 40,
        history.models,
        np.ones((40, 2)),
        np.ones((40, 2)),
    )
    done = fit(known, PRESETS["best"], embeddings=rows)
    save_fitted(folder / "history", done, FitFacts("best", "a test", done.history.digest()))
    return folder
