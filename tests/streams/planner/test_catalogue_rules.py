"""LLMs missing from the history: one rule for `config check`, the start of a worker and `plan apply`."""

from pathlib import Path

import numpy as np
import pytest

from routing.budgets.catalogue import Catalogue
from routing.history.history import EmbeddedHistory, History
from streams.config.settings import Settings
from streams.planner.catalogue_rules import apply_mistakes, known_llms
from tests.streams.sample_cluster import make_plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a history of two LLMs."""
    answers = np.ones((2, 2))
    history = History(["x", "y"], ["p", "q"], ["t", "t"], ["small", "vendor/large"], answers, answers)
    EmbeddedHistory(history, np.eye(2, dtype=np.float32), "test").save(tmp_path)
    return tmp_path


def catalogue(*names: str, **prices: float) -> Catalogue:
    return Catalogue.from_dict({"models": [{"name": name, "budget_usd": 1, **prices} for name in names]})


def test_apply_with_unknown_llm_is_rejected(folder: Path):
    settings = Settings(history=folder)
    assert known_llms(settings) == ("small", "vendor/large")
    assert apply_mistakes(settings, catalogue("small"), None) == []
    (mistake,) = apply_mistakes(settings, catalogue("small", "new"), make_plan())
    assert "the history knows nothing of new" in mistake
    exploring = settings.model_copy(update={"exploration": 0.1})
    assert apply_mistakes(exploring, catalogue("small", "new"), None) == []


def test_apply_without_known_llm_is_rejected_despite_exploration(folder: Path):
    settings = Settings(history=folder, exploration=0.5)
    (mistake,) = apply_mistakes(settings, catalogue("new"), None)
    assert "no LLM in common with the history, which has small, vendor/large" in mistake


def test_apply_without_history_accepts_only_llms_of_plan(tmp_path: Path):
    settings, plan = Settings(history=tmp_path / "none"), make_plan()
    assert apply_mistakes(settings, catalogue(*plan.models), plan) == []
    (mistake,) = apply_mistakes(settings, catalogue("small", "new"), plan)
    assert "set PORT_HISTORY to the workers' folder" in mistake
    assert apply_mistakes(settings.model_copy(update={"history": None}), catalogue("small"), None)


def test_apply_with_bounds_requires_list_prices(folder: Path):
    settings = Settings(history=folder, reserve="bound")
    (mistake,) = apply_mistakes(settings, catalogue("small"), None)
    assert mistake.startswith("reserve: 'bound' needs input_price and output_price of small")
    assert apply_mistakes(settings, catalogue("small", input_price=1, output_price=2), None) == []
