"""The commands: what they write, that they go on where they stopped, tables and plots."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.commands import seeds_of
from experiments.equal_spend import at_equal_spend
from experiments.policies.oracles import Offline
from experiments.registry import Context, make_policy
from experiments.running import Laboratory, Setting, run_all
from experiments.split import Case, Split
from experiments.studies import STUDIES
from experiments.tables import interval, markdown, summary
from routing.history import EmbeddedHistory, History


def made(rows=700, models=3, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = np.clip(0.5 + vectors[:, :1] + np.linspace(-0.2, 0.2, models), 0, 1)
    prompts = [f"question {i} " + "word " * int(n) for i, n in enumerate(rng.integers(5, 40, rows))]
    cost = np.array([[len(p)] for p in prompts]) * np.logspace(-7, -5, models)
    tasks = [f"task-{i % 3}" for i in range(rows)]
    ids = [f"q{i}" for i in range(rows)]
    return History(ids, prompts, tasks, [f"m{i}" for i in range(models)], quality, cost), vectors


@pytest.fixture(scope="module")
def data():
    return made()


@pytest.fixture
def laboratory(data):
    return Laboratory(*data, "made")


@pytest.fixture
def command(data, tmp_path):
    history, vectors = data
    EmbeddedHistory(history, vectors, "made").save(tmp_path / "data")
    np.save(tmp_path / "vectors.npy", vectors)
    told = ["--dataset", str(tmp_path / "data"), "--embeddings", str(tmp_path / "vectors.npy")]

    def run(name, *more):
        return main([name, *told, "--queries", "200", "--json", str(tmp_path / f"{name}.json"), *more])

    return run


def test_split_is_the_permutations_first_rows_in_that_order(data):
    history, vectors = data
    split = Split.of(history, vectors, "made", 200, seed=3)
    order = np.random.default_rng(3).permutation(700)
    np.testing.assert_array_equal(split.test, order[:200])
    np.testing.assert_array_equal(split.past, order[200:])
    case = Case.of(split)
    assert case.budgets.sum() == pytest.approx(history.cost[order[:200]].sum(0).min())
    weight = np.sqrt(history.quality[order[200:]].mean(0) / history.cost[order[200:]].mean(0))
    np.testing.assert_allclose(case.budgets / case.budgets.sum(), weight / weight.sum())
    sorted_ = Case.of(split, order="task")
    tasks = [history.tasks[i] for i in split.test[sorted_.rows]]
    assert tasks == sorted(tasks)


def test_the_command_form_and_its_json(command, tmp_path, capsys):
    assert command("main", "--seeds", "0..1", "--policies", "random,port,port-best,approx-optimum",
                   "--budget-factor", "1", "--split", "weighted", "--order", "random",
                   "--plot", str(tmp_path / "plot")) == 0  # fmt: skip
    written = json.loads((tmp_path / "main.json").read_text())
    assert len(written["rows"]) == 8
    for row in written["rows"]:
        assert {"policy", "seed", "performance", "cost", "throughput", "relative"} <= set(row)
        if row["policy"] == "approx-optimum":
            assert row["relative"] == pytest.approx(100)
    assert written["config"]["queries"] == 200
    assert "port-best" in capsys.readouterr().out
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


def test_it_goes_on_where_it_was_interrupted(laboratory, tmp_path, monkeypatch):
    settings = [Setting(x=1.0, queries=200, policies=("random", "cheapest", "best-single"))]
    out = tmp_path / "rows.json"
    run, calls = Laboratory.run, []

    def interrupted(self, setting, seed, name):
        calls.append((seed, name))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(self, setting, seed, name)

    monkeypatch.setattr(Laboratory, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(laboratory, settings, [0, 1], {"experiment": "main"}, out)
    assert len(json.loads(out.read_text())["rows"]) == 3
    rows = run_all(laboratory, settings, [0, 1], {"experiment": "main"}, out)
    assert len(calls) == 4 + 3
    assert [(r["seed"], r["policy"]) for r in rows] == [(s, p) for s in (0, 1) for p in settings[0].policies]
    with pytest.raises(ValueError, match="another experiment"):
        run_all(laboratory, settings, [0], {"experiment": "volume"}, out)


def test_last_bits_are_told_beside_published_figures(command, tmp_path, capsys):
    published = {"performance": 3, "cost": 1, "throughput": 4}
    figures = {"results": {"port_published alpha=0.001 seed=1": published}}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    more = ["--alphas", "1e-3", "--draws", "4", "--figures", str(tmp_path / "figures.json")]
    assert command("last-bits", "--seeds", "0..1", *more) == 0
    first, second = json.loads((tmp_path / "last-bits.json").read_text())["rows"]
    assert first["least"] <= first["median"] <= first["most"]
    assert first["runs"] == 5
    assert "published" not in first
    assert (second["published"], second["identical"]) == (3, 0)
    assert main(["table", str(tmp_path / "last-bits.json")]) == 0
    assert "| port-published:alpha=0.001 | 1 |" in capsys.readouterr().out


def test_the_reference_is_solved_once_for_all_orders(laboratory, monkeypatch):
    solved = []
    decide = Offline.decide
    monkeypatch.setattr(Offline, "decide", lambda self, case: solved.append(self.name) or decide(self, case))
    setting = Setting(x=1.0, queries=200, policies=())
    rows = [laboratory.run(setting, 0, name) for name in ("random", "approx-optimum")]
    laboratory.run(replace(setting, order="task"), 0, "random")
    assert solved == ["approx-optimum"]
    assert rows[1]["relative"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "values", "points"),
    [
        ("volume", "100,200", 2), ("llms", "2,3", 2), ("orders", "0,1,task", 3), ("budget", "0.5,2", 2),
        ("splits", "uniform,random3,extreme2", 3), ("eps", "0.05,0.2", 2), ("alpha", "1e-4,1e-2", 2),
        ("neighbours", "1,5", 2), ("history", "100,300", 2),
    ],
)  # fmt: skip
def test_every_experiment_has_its_points_and_its_plot(command, tmp_path, name, values, points):
    more = [] if name in ("eps", "alpha", "neighbours") else ["--policies", "random,port,greedy-cost"]
    assert command(name, "--values", values, "--seeds", "0", "--plot", str(tmp_path / "p"), *more) == 0
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert len({str(row["x"]) for row in rows}) == points
    assert (tmp_path / "p.svg").exists()


def test_equal_spend_finds_the_factor(laboratory):
    setting = Setting(x=1.0, queries=200, policies=())
    target = laboratory.case(setting, 0).budgets.sum()
    for name in ("cheapest", "port"):
        row = at_equal_spend(laboratory, setting, 0, name, tolerance=0.02)
        assert row["target"] == pytest.approx(target)
        assert row["reached"] == (abs(row["cost"] - target) <= 0.02 * target)
        assert row["budget_factor"] >= 1
    assert at_equal_spend(laboratory, setting, 0, "cheapest", 0.02)["reached"]


def test_estimates_are_kept_between_runs(data, tmp_path):
    setting = Setting(x=1.0, queries=200, policies=())
    first = Laboratory(*data, "made", tmp_path).run(setting, 0, "port-best")
    assert list(tmp_path.glob("*.npz"))
    again = Laboratory(*data, "made", tmp_path).run(setting, 0, "port-best")
    assert again["performance"] == first["performance"]


def test_studies_name_policies_that_exist():
    for study in STUDIES.values():
        for policy in study.policies:
            if ".." not in policy:  # stands for the values of the axis
                make_policy(policy, Context(rows=2000))


def test_intervals_and_tables():
    mean, half = interval([1.0, 2.0, 3.0])
    assert (round(mean, 3), round(half, 3)) == (2.0, 2.484)
    rows = [
        {"x": 1.0, "policy": "p", "performance": v, "cost": 1.0, "throughput": 3, "relative": 50.0,
         "efficiency": None, "seconds": 0.1} for v in (1.0, 3.0)
    ]  # fmt: skip
    assert summary(rows)[0]["performance"] == 2.0
    assert "| p | 2.0 ± 12.7 |" in markdown(rows)


def test_seeds_and_mistakes(command, capsys):
    assert seeds_of("0..2,7") == [0, 1, 2, 7]
    assert command("main", "--seeds", "x") == 2
    assert command("main", "--policies", "nonsense") == 2
    assert "seeds" in (said := capsys.readouterr().err)
    assert "nonsense" in said
