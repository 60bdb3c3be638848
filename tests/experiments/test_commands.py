"""The commands: what they write, that they go on where they stopped, tables and plots."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from experiments import commands, last_bits
from experiments.__main__ import main
from experiments.commands import seeds_of
from experiments.equal_spend import at_equal_spend, search
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


def test_rows_not_asked_for_now_stay_in_the_file(command, tmp_path):
    written = tmp_path / "main.json"
    assert command("main", "--seeds", "0", "--policies", "random,cheapest") == 0
    before = json.loads(written.read_text())["rows"]
    assert command("main", "--seeds", "1", "--policies", "best-single") == 0
    after = json.loads(written.read_text())["rows"]
    assert [(r["policy"], r["seed"]) for r in after] == [("random", 0), ("cheapest", 0), ("best-single", 1)]
    assert after[:2] == before


def test_rows_of_other_embeddings_are_not_mixed(command, data, tmp_path, capsys):
    written = tmp_path / "main.json"
    assert command("main", "--policies", "random") == 0
    other = data[1][:, ::-1]
    np.save(tmp_path / "other.npy", other)
    more = ["--policies", "cheapest", "--embeddings", str(tmp_path / "other.npy")]
    assert command("main", *more) == 2
    assert "vectors" in capsys.readouterr().err
    assert command("main", "--policies", "cheapest", "--embedder", "another") == 2
    assert "embedder" in capsys.readouterr().err
    # a file of before vectors were told: accepted, and not said to be of these vectors afterwards
    found = json.loads(written.read_text())
    del found["config"]["vectors"]
    written.write_text(json.dumps(found))
    with capture_logs() as logs:
        assert command("main", *more) == 0
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["rows_of_unknown_embeddings"]
    found = json.loads(written.read_text())
    assert len(found["rows"]) == 2
    assert "vectors" not in found["config"]


@pytest.mark.parametrize(
    ("name", "more", "module", "work"),
    [
        ("equal-spend", ["--policies", "cheapest,random"], commands, "at_equal_spend"),
        ("last-bits", ["--alphas", "1e-4,1e-3", "--draws", "2"], last_bits, "spread"),
    ],
)
def test_equal_spend_and_last_bits_go_on_where_they_stopped(
    command, tmp_path, monkeypatch, name, more, module, work
):
    real, calls = getattr(module, work), []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, work, interrupted)
    with pytest.raises(KeyboardInterrupt):
        command(name, *more)
    kept = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert len(kept) == 1
    assert command(name, *more) == 0
    assert len(calls) == 3
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert rows[0] == kept[0]
    assert len(rows) == 2


def test_what_was_asked_for_and_cannot_be_run_is_an_error_before_anything_runs(command, capsys, monkeypatch):
    def ran(*_):
        raise AssertionError("something was run")

    monkeypatch.setattr(Laboratory, "run", ran)
    for name, more, said in [
        ("history", ["--values", "100,600"], "history: 600 must be 1 to 500"),
        ("volume", ["--values", "100,700"], "queries: 700"),
        ("llms", ["--values", "2,9"], "models: 9 must be 1 to 3"),
        ("splits", ["--values", "uniform,extreme3"], "extreme3 needs more than 3"),
        ("budget", ["--values", "1,-1"], "budget factor: -1.0"),
        ("main", ["--history", "501"], "history: 501"),
        ("main", ["--policies", "random,port-static"], "--preset static --out FOLDER"),
        ("main", ["--policies", "random,roberta-perf"], "train"),
        ("main", ["--policies", "random,port:resolve=sometimes"], "resolve is one of"),
        ("main", ["--policies", "random,port:eps=2"], "eps: 2.0"),
        ("main", ["--policies", "random,port:k=many"], "port:k=many"),
        ("main", ["--policies", "random,port-best:adjust=magic"], "magic"),
        ("main", ["--policies", "random,port-fast"], "1,000 rows"),
        ("main", ["--order", "backwards"], "backwards"),
    ]:
        assert command(name, *more) == 2, more
        assert said in capsys.readouterr().err


def test_default_points_and_policies_that_the_set_cannot_have_are_left_out_with_a_warning(command, tmp_path):
    with capture_logs() as logs:
        assert command("llms", "--policies", "random") == 0
        assert command("history", "--policies", "random") == 0
        assert command("main", "--queries", "100") == 0
    rows = json.loads((tmp_path / "llms.json").read_text())["rows"]
    assert [row["x"] for row in rows] == [2]
    assert [row["x"] for row in json.loads((tmp_path / "history.json").read_text())["rows"]] == [500]
    left_out = [log["x"] for log in logs if log["event"] == "point_left_out"]
    assert left_out == [4, 6, 8, 10, 12, 14, 16, 1000, 2000, 4000, 8000, 12000]
    assert [log["policy"] for log in logs if log["event"] == "policy_left_out"] == ["port-fast"]


def test_a_split_never_has_fewer_history_rows_than_it_says(data):
    with pytest.raises(ValueError, match="history: 501 must be 1 to 500"):
        Split.of(*data, "made", 200, seed=0, history=501)
    assert len(Split.of(*data, "made", 200, seed=0, history=500).past) == 500


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
    drawn = (tmp_path / "p.svg").read_text()
    assert "cost, USD" in drawn
    if name in ("eps", "neighbours", "history"):
        assert all(f">{value}<" in drawn for value in values.split(","))  # ticks are the points that were run


def test_equal_spend_finds_the_factor(laboratory):
    setting = Setting(x=1.0, queries=200, policies=())
    case = laboratory.case(setting, 0)
    target = case.budgets.sum()
    for name in ("cheapest", "port", "random"):
        row = at_equal_spend(laboratory, setting, 0, name, tolerance=0.02)
        assert row["cost"] == pytest.approx(target, rel=0.02)
        assert row["reached"]
        # the factor is what does it: the same policy at that factor, and no less at 1
        again = laboratory.run(replace(setting, factor=row["budget_factor"]), 0, name)
        assert (again["cost"], again["performance"]) == (row["cost"], row["performance"])
        assert laboratory.run(setting, 0, name)["cost"] < 0.98 * target
        assert row["relative"] == pytest.approx(
            100 * row["performance"] / laboratory.reference(setting, 0, case), abs=1e-3
        )


def test_equal_spend_finds_what_bisection_misses_and_says_what_cannot_be_reached():
    def jumping(factor):
        """Spend falls again between 1.3 and 1.7, and leaps over 1 at every place but near 1.55."""
        near = abs(factor - 1.55) < 0.02
        return {"factor": factor, "cost": 1.0 if near else 0.8 if factor < 1.3 or 1.5 < factor < 1.7 else 1.2}

    best, tries = search(jumping, 1.0, 1.0, 0.01)
    assert best["cost"] == 1.0
    assert tries < 60
    best, _ = search(lambda f: {"factor": f, "cost": min(0.4 * f, 0.7)}, 1.0, 1.0, 0.01)
    assert best["cost"] == 0.7
    best, _ = search(lambda f: {"factor": f, "cost": 0.9 if f < 1.4 else 1.3}, 1.0, 1.0, 0.01)
    assert best["cost"] == 0.9


def test_tables_mark_what_was_not_reached_and_tell_the_factor():
    row = {"x": 1.0, "policy": "p", "performance": 2.0, "cost": 1.0, "throughput": 3, "relative": 50.0,
           "efficiency": 2.0, "seconds": 0.1, "budget_factor": 1.5, "reached": True}  # fmt: skip
    told = markdown([row, {**row, "reached": False}, {**row, "policy": "q"}]).splitlines()
    assert told[0].split("|")[3:6] == [" cost, USD ", " budget factor ", " spend reached "]
    assert told[2].split("|")[5] == " 1 of 2 "
    assert told[3].split("|")[5] == " 1 of 1 "


def test_estimates_are_kept_between_runs(data, tmp_path):
    setting = Setting(x=1.0, queries=200, policies=())
    first = Laboratory(*data, "made", tmp_path).run(setting, 0, "port-best")
    assert list(tmp_path.glob("*.npz"))
    again = Laboratory(*data, "made", tmp_path).run(setting, 0, "port-best")
    assert again["performance"] == first["performance"]


def test_studies_name_policies_that_exist(tmp_path):
    for study in STUDIES.values():
        for policy in study.policies:
            if ".." not in policy:  # stands for the values of the axis
                make_policy(policy, Context(rows=2000, table=str(tmp_path)))


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
