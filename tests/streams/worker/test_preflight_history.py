"""Preflight checks of the history, its fit and its embedder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from routing.history.history import EmbeddedHistory
from streams.worker.preflight import ConfigReport
from tests.streams.fitting_settings import fitting, sources


def test_check_config_with_an_llm_that_the_history_lacks_reports_it(
    check: Callable[..., ConfigReport], folder: Path
):
    (folder / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a, z]\n")
    (mistake,) = check(**fitting(folder)).mistakes
    assert "knows nothing of z" in mistake

    assert check(**fitting(folder), exploration=0.1).mistakes == []

    (folder / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [z]\n")
    (mistake,) = check(**fitting(folder)).mistakes
    assert "no LLM in common" in mistake


@pytest.mark.parametrize(("preset", "in_force"), [("auto", "True"), ("paper", "False")])
def test_check_config_with_an_unfitted_history_tops_up_samples_unless_the_preset_is_paper(
    check: Callable[..., ConfigReport], folder: Path, preset: str, in_force: str
):
    """A history that was not fitted takes the paper's estimator, and tops few samples up all the same."""
    top_up_samples = sources(check(**fitting(folder), preset=preset))["top_up_samples"]
    assert top_up_samples == (in_force, "preset paper" if preset == "paper" else "default")
    assert sources(check(**fitting(folder), preset=preset, top_up_samples=True))["top_up_samples"] == (
        "True",
        "PORT_TOP_UP_SAMPLES",
    )


def test_check_config_with_a_modified_history_reports_it(check: Callable[..., ConfigReport], folder: Path):
    for path in (folder / "history").glob("embeddings*"):
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")

    (mistake,) = check(**fitting(folder)).mistakes

    assert mistake.startswith("history: ")

    (mistake,) = check(**fitting(folder) | {"history": folder}).mistakes
    assert mistake.startswith("history: ")
    assert mistake.endswith("or correct the path (PORT_HISTORY)")


@pytest.mark.parametrize("history", ["there", "not there"])
def test_check_config_with_a_missing_embedder_reports_it(
    check: Callable[..., ConfigReport], folder: Path, history: str
):
    variables = fitting(folder) | ({} if history == "there" else {"history": folder / "none"})

    mistakes = check(**variables, embedder="/nope").mistakes

    assert [text for text in mistakes if text.startswith("embedder: model: '/nope' is no folder")]
    assert len(mistakes) == 1 + (history != "there")


def test_check_config_with_a_history_of_another_embedder_reports_it(
    check: Callable[..., ConfigReport], folder: Path
):
    history = EmbeddedHistory.load(folder / "history").history
    EmbeddedHistory(history, np.eye(2, dtype=np.float32), "another").save(folder / "history")

    (mistake,) = check(**fitting(folder)).mistakes

    assert mistake.startswith("history: ")
    assert "was embedded by 'another'" in mistake
    assert "embed the history again" in mistake


def test_check_config_with_a_fit_for_another_preset_reports_it(
    check: Callable[..., ConfigReport], fitted: Path
):
    report = check(**fitting(fitted))
    assert report.mistakes == []
    assert sources(report)["mix"] == ("remaining", "preset best")

    (mistake,) = check(**fitting(fitted), preset="static").mistakes

    assert "was fitted for 'best'" in mistake
    assert "set PORT_PRESET=best" in mistake


def test_check_config_with_an_unfitted_history_uses_the_preset_of_a_worker(
    check: Callable[..., ConfigReport], folder: Path
):
    assert sources(check(**fitting(folder)))["resolve"] == ("once", "preset paper")
    (mistake,) = check(**fitting(folder), preset="static").mistakes
    assert "run `python -m routing fit --preset static`" in mistake
