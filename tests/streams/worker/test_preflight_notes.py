"""Notes of the preflight checks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from routing.embedding.embedder import load_embedder
from routing.history.history import EmbeddedHistory, History
from streams.worker.preflight import ConfigReport
from tests.streams.fitting_settings import fitting, sources


def test_check_config_with_too_few_samples_adds_a_note(check: Callable[..., ConfigReport], folder: Path):
    few = {"horizon": 20, "eps": 0.1}
    (note,) = check(**fitting(folder), **few).notes
    assert "2 samples (0.1 of 20 queries) are too few to price 2 LLMs; 20 would do" in note
    assert "Rows of the history top them up" in note
    (note,) = check(**fitting(folder), **few, preset="paper").notes
    assert "set eps to at least 1, or top_up_samples=true" in note
    assert check(**fitting(folder), horizon=20, eps=1).notes == []


def test_check_config_with_a_zero_budget_notes_unusable_llms(
    check: Callable[..., ConfigReport], folder: Path
):
    history = History(
        ["x", "y"], ["p", "q"], ["t", "t"], ["a", "b"], np.ones((2, 2)), np.array([[0.0, 1.0], [0.0, 1.0]])
    )
    EmbeddedHistory(history, np.eye(2, dtype=np.float32), load_embedder().identity).save(folder / "history")
    models = "models: [{name: a, budget_usd: 0}, {name: b, budget_usd: 0}]\nsettings: {eps: 0.5}\n"
    (folder / "catalogue.yaml").write_text(models)
    (note,) = check(**fitting(folder)).notes
    assert "budget_usd of 'b': 0, and its queries cost something, so none is sent to it" in note


@pytest.mark.parametrize(
    ("does_nothing", "does_something"),
    [
        ({"mix": "remaining", "solver": "exact", "resolve": "every"}, {"solver": "newton"}),
        ({"mix": "remaining", "solver": "newton", "resolve": "once"}, {"resolve": "every"}),
        ({"resolve_every": 9}, {"resolve": "every"}),
        ({"resolve_late": 9}, {"resolve": "every"}),
        ({"resolve_tail": 0.1}, {"resolve": "every"}),
        ({"resolve_window": 9, "resolve": "geometric"}, {"resolve": "every"}),
        ({"eps": 0.1, "warmup": "history"}, {"warmup": "buffer"}),
        ({"warmup_seconds": 9, "warmup": "history"}, {"warmup": "random"}),
        ({"default_max_tokens": 9}, {"reserve": "bound"}),
        ({"seed": 9}, {"warmup": "random"}),
        ({"web_host": "::1"}, {"web_port": 80}),
        ({"web_token": "hunter2"}, {"web_port": 80}),
    ],
)
def test_check_config_with_an_unused_setting_adds_a_note(
    check: Callable[..., ConfigReport],
    folder: Path,
    does_nothing: dict[str, object],
    does_something: dict[str, object],
):
    (folder / "catalogue.yaml").write_text(
        "budget_usd: 1\nmodels:\n- {name: a, input_price: 1, output_price: 2}\n"
        "- {name: b, input_price: 1, output_price: 1}\n"
    )
    assert check(**fitting(folder)).notes == []

    report = check(**fitting(folder), **does_nothing)

    assert report.mistakes == []
    (note,) = report.notes
    assert note.startswith(f"{next(iter(does_nothing))}: does nothing with")
    assert "hunter2" not in note
    assert check(**fitting(folder), **does_nothing | does_something).notes == []


def test_check_config_with_settings_that_a_fit_overrides_adds_notes(
    check: Callable[..., ConfigReport], fitted: Path
):
    (fitted / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a, b]\n")
    of_neighbours = {"k": 7, "weighting": "similarity", "cost_estimate": "per-length", "index": "hnsw"}

    report = check(**fitting(fitted), **of_neighbours, embedder="/nope")

    assert report.mistakes == []
    assert {
        note.partition(": does nothing with a history that was fitted for preset best")[0]
        for note in report.notes
    } == {*of_neighbours, "embedder"}


def test_check_config_with_variables_of_a_kubernetes_service_adds_a_note(
    check: Callable[..., ConfigReport], folder: Path
):
    report = check(**fitting(folder), web_port="tcp://10.96.0.12:8080", web_service_host="10.96.0.12")

    assert report.mistakes == []
    (note,) = report.notes
    assert note.startswith("PORT_WEB_PORT and 1 more: ignored")
    assert sources(report)["web_port"] == ("not set", "default")
