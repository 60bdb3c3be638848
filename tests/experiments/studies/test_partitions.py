"""The study of partitions: traffic over partitions, repeated queries, the command."""

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.cases import Case, Split
from experiments.studies.partitions import StreamPoint, lanes_of, markdown, repeated, summarised
from routing.history.history import EmbeddedHistory, History


def made(rows=500, models=3):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = np.clip(0.5 + vectors[:, :1] + np.linspace(-0.2, 0.2, models), 0, 1)
    cost = random.uniform(0.5, 1.5, (rows, 1)) * np.logspace(-5, -4, models)
    names = [f"q{i}" for i in range(rows)]
    return History(names, names, ["t"] * rows, [f"m{i}" for i in range(models)], quality, cost), vectors


def point(**fields) -> StreamPoint:
    defaults = {
        "queries": 20_000,
        "repeated": False,
        "partitions": 4,
        "traffic": "even",
        "look": 200,
        "lag": 50,
        "seed": 0,
    }
    return StreamPoint(**(defaults | fields))


def test_lanes_of_each_traffic_has_its_shares():
    assert lanes_of(point(partitions=1)) is None
    shares = {}
    for traffic in ("even", "skewed", "changing"):
        lanes = lanes_of(point(traffic=traffic))
        shares[traffic] = [np.bincount(half, minlength=4) / 10_000 for half in np.split(lanes, 2)]
    assert shares["even"][0] == pytest.approx([0.25] * 4, abs=0.02)
    ten_to_one = np.linspace(10, 1, 4) / np.linspace(10, 1, 4).sum()
    for half in shares["skewed"]:
        assert half == pytest.approx(ten_to_one, abs=0.02)
    assert shares["changing"][0] == pytest.approx(ten_to_one, abs=0.02)
    assert shares["changing"][1] == pytest.approx(ten_to_one[::-1], abs=0.02)


def test_repeated_case_permutes_its_queries_and_scales_budgets():
    split = Split.of(*made(), "made", 100, seed=0)
    case = Case.of(split)
    longer = repeated(case, 250)
    assert (len(longer), longer.horizon) == (250, 250)
    assert longer.budgets == pytest.approx(2.5 * case.budgets)
    assert np.bincount(longer.rows).max() == 3
    assert sorted(longer.rows[:100]) == sorted(longer.rows[100:200]) == list(range(100))
    assert longer.rows[:100].tolist() != longer.rows[100:200].tolist()


def test_command_partitions_compares_with_one_partition(tmp_path):
    history, vectors = made()
    EmbeddedHistory(history, vectors, "made").save(tmp_path / "data")
    np.save(tmp_path / "vectors.npy", vectors)
    out = tmp_path / "partitions.json"
    status = main(
        [
            "partitions",
            "--dataset",
            str(tmp_path / "data"),
            "--embeddings",
            str(tmp_path / "vectors.npy"),
            "--queries",
            "100,200",
            "--partitions",
            "2,3",
            "--traffic",
            "even,changing",
            "--looks",
            "10,20",
            "--policy",
            "port:k=5:warmup=history:resolve=every:solver=newton",
            "--lag",
            "3",
            "--repeated",
            "400",
            "--repeated-partitions",
            "2",
            "--seeds",
            "0,1",
            "--json",
            str(out),
        ]
    )
    assert status == 0
    results = json.loads(out.read_text())
    assert results["config"]["experiment"] == "partitions"
    rows = results["rows"]
    assert len(rows) == 2 * (2 * (1 + 2 * 2 * 2) + 1 + 2)
    for row in rows:
        assert 0 < row["spent"] <= 1
        assert (row["partitions"] > 1) or (row["loss"] == row["through_overflow"] == 0)
    lines = summarised(rows)
    assert [line["runs"] for line in lines] == [2] * len(lines)
    assert {line["queries"] for line in lines} == {100, 200, 400}
    assert all(line["worst"] >= line["loss"] for line in lines)
    assert len(markdown(rows).splitlines()) == 2 + len(lines)
    assert main(["table", str(out)]) == 0


def test_command_partitions_of_a_policy_without_planner_fails(tmp_path, capsys):
    history, vectors = made(60)
    EmbeddedHistory(history, vectors, "made").save(tmp_path / "data")
    np.save(tmp_path / "vectors.npy", vectors)
    options = [
        "partitions",
        "--dataset",
        str(tmp_path / "data"),
        "--embeddings",
        str(tmp_path / "vectors.npy"),
    ]
    assert main([*options, "--queries", "20", "--policy", "greedy-perf"]) == 2
    assert "planner" in capsys.readouterr().err
