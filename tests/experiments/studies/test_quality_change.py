"""The study of a change in quality: what learning recovers, the prices of one total, the command."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies.shared_total import SharedTotal, total_price
from routing.estimators.base import Estimates


def stream(n=1200, total=0.5):
    """Two LLMs: a dear good one and a cheap bad one; the dear one fits for about half of the queries."""
    random = np.random.default_rng(0)
    quality = np.clip(np.array([0.8, 0.4]) + random.normal(0, 0.05, (n, 2)), 0, 1)
    cost = np.tile([1e-3, 1e-4], (n, 1))
    estimates, none = Estimates(quality, cost), np.zeros(n, np.int64)
    return SharedTotal(estimates, estimates, cost, total * n * 1e-3, none, none)


def test_total_price_spends_the_budget_where_it_is_worth_most():
    random = np.random.default_rng(1)
    quality, cost = random.uniform(size=(500, 3)), np.tile([1.0, 2.0, 4.0], (500, 1))
    price = total_price(quality, cost, 600.0)
    score = quality - price * cost
    best = score.argmax(1)
    assert cost[np.arange(500), best][score.max(1) > 0].sum() == pytest.approx(600, abs=5)


def test_run_learning_recovers_most_of_a_change_and_uses_the_llm_again():
    shared, half = stream(), 600
    worse = lambda j, i: 0.1 if i == 0 and j < half else float(shared.estimates.quality[j, i])  # noqa: E731
    _, fixed = shared.run(worse)
    choice, learned = shared.run(worse, learns=True)
    cheap_alone = shared.estimates.quality[:half, 1].sum()
    assert learned[:half].sum() - fixed[:half].sum() > 0.7 * (cheap_alone - fixed[:half].sum())
    assert (choice[half + 400 :] == 0).mean() > 0.4


def test_run_outcomes_that_never_arrive_change_nothing():
    shared = stream(300)
    plain, _ = shared.run(lambda j, i: 0.0)
    learned, _ = shared.run(lambda j, i: 0.0, learns=True, outcome_after=1000)
    assert plain.tolist() == learned.tolist()


def test_command_quality_change_writes_and_prints_its_rows(command, tmp_path, capsys):
    assert command("quality-change", "--policy", "random", "--seeds", "0") == 2
    assert "policy" in capsys.readouterr().err
    options = ["--policy", "port:k=20:resolve=every:warmup=history:solver=newton", "--seeds", "0..1"]
    assert command("quality-change", *options) == 0
    rows = json.loads((tmp_path / "quality-change.json").read_text())["rows"]
    assert [row["seed"] for row in rows] == [0, 1]
    assert all(row["changed"] < row["steady"] for row in rows)
    assert main(["table", str(tmp_path / "quality-change.json")]) == 0
    assert "recovered" in capsys.readouterr().out
