"""The commands: result files, resuming, validation, progress."""

import json

import pytest
from structlog.testing import capture_logs

from experiments import commands
from experiments.__main__ import main
from experiments.commands import seeds_of
from experiments.runs.runner import ExperimentData
from experiments.studies import rounding
from routing.history.history import EmbeddedHistory


def test_main_command_writes_rows_table_and_plot(command, tmp_path, capsys):
    assert (
        command(
            "main",
            "--seeds",
            "0..1",
            "--policies",
            "random,port,port-best,approx-optimum",
            "--budget-factor",
            "1",
            "--split",
            "weighted",
            "--order",
            "random",
            "--plot",
            str(tmp_path / "plot"),
        )
        == 0
    )
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


@pytest.mark.parametrize(
    ("name", "more", "module", "work"),
    [
        ("equal-spend", ["--policies", "cheapest,random"], commands, "at_equal_spend"),
        ("last-bits", ["--alphas", "1e-4,1e-3", "--draws", "2"], rounding, "spread"),
    ],
)
def test_equal_spend_and_last_bits_interrupted_resume_after_the_last_row(
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
    stored = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert len(stored) == 1
    assert command(name, *more) == 0
    assert len(calls) == 3
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert rows[0] == stored[0]
    assert len(rows) == 2


def test_command_with_invalid_request_fails_before_the_first_run(command, capsys, monkeypatch):
    def fail(*_):
        raise AssertionError("a policy was run")

    monkeypatch.setattr(ExperimentData, "run", fail)
    for name, more, message in [
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
        assert message in capsys.readouterr().err


def test_command_with_impossible_defaults_skips_them_with_a_warning(command, tmp_path):
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


def test_command_without_embeddings_reports_progress_at_once(data, tmp_path, capsys, monkeypatch):
    class Slow:
        identity = "made"

        def embed(self, texts):
            (reading, progress) = capsys.readouterr().err.splitlines()
            assert reading == f"reading {tmp_path / 'data'}"
            assert progress == "embedding: 0 of 700 texts"
            raise ValueError("seen")

    EmbeddedHistory(*data, "made").save(tmp_path / "data")
    monkeypatch.setattr(commands, "load_embedder", lambda name: Slow())

    assert main(["main", "--dataset", str(tmp_path / "data"), "--queries", "200"]) == 2
    assert "main: seen" in capsys.readouterr().err


def test_seeds_of_invalid_text_and_unknown_policies_fail(command, capsys):
    assert seeds_of("0..2,7") == [0, 1, 2, 7]
    assert command("main", "--seeds", "x") == 2
    assert command("main", "--policies", "nonsense") == 2
    assert "seeds" in (message := capsys.readouterr().err)
    assert "nonsense" in message
