"""The study of off-line evaluation: a known answer, the command."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies.off_policy import evaluate
from routing.estimators.base import Estimates


def test_evaluate_finds_the_true_value_that_the_estimates_alone_miss():
    random = np.random.default_rng(0)
    quality = random.uniform(0, 1, (20_000, 4))
    cost = np.zeros_like(quality)
    noisy = [Estimates(np.clip(quality + random.normal(0, 0.5, quality.shape), 0, 1), cost) for _ in range(2)]
    row = evaluate(quality, *noisy, price=1.0, explored=0.3, seed=1)
    assert abs(row["doubly_robust"] - row["true"]) < 4 * row["doubly_robust_error"]
    assert abs(row["inverse_propensity"] - row["true"]) < 4 * row["inverse_propensity_error"]
    assert row["estimated_only"] > row["true"] + 0.1


def test_command_off_policy_writes_and_prints_its_rows(command, tmp_path, capsys):
    options = ["--logged", "port:k=3", "--evaluated", "port:k=20", "--seeds", "0..1"]
    assert command("off-policy", *options) == 0
    rows = json.loads((tmp_path / "off-policy.json").read_text())["rows"]
    assert [row["seed"] for row in rows] == [0, 1]
    assert main(["table", str(tmp_path / "off-policy.json")]) == 0
    assert "doubly robust" in capsys.readouterr().out
    assert command("off-policy", "--explored", "0") == 2


def decision(model: str, probability: float, reported: float, **fields) -> str:
    record = {
        "id": "q",
        "model": model,
        "probability": probability,
        "reported": reported,
        "models": ["a", "b"],
        "quality": [0.5, 0.5],
        "cost": [0.001, 0.002],
        "eligible": [True, True],
    }
    return json.dumps(record | fields) + "\n"


def test_command_off_policy_reads_logged_decisions(tmp_path, capsys):
    path = tmp_path / "decisions.jsonl"
    # the router chooses a nine times in ten; b, which is better, by exploration
    path.write_text(decision("a", 0.9, 0.2) * 900 + decision("b", 0.1, 0.8) * 100)
    out = tmp_path / "logged.json"
    assert main(["off-policy", "--decisions", str(path), "--price", "0", "--json", str(out)]) == 0
    rows = {row["policy"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["b"]["inverse_propensity"] == pytest.approx(0.8)
    assert rows["a"]["doubly_robust"] == pytest.approx(0.2)
    assert rows["price 0"]["mean_weight"] == pytest.approx(1)
    assert main(["table", str(out)]) == 0
    assert "doubly robust" in capsys.readouterr().out


def test_command_off_policy_names_a_bad_line(tmp_path, capsys):
    path = tmp_path / "decisions.jsonl"
    path.write_text(decision("a", 0.9, 0.2) + decision("c", 0.9, 0.2))
    assert main(["off-policy", "--decisions", str(path)]) == 2
    assert "line 2" in capsys.readouterr().err
    assert main(["off-policy"]) == 2
