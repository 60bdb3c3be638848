import json
from dataclasses import replace

import pytest

from experiments.policies.oracles import Offline
from experiments.runs.runner import ExperimentData, ExperimentPoint, run_all


def test_run_all_interrupted_resumes_after_the_last_row(experiment, tmp_path, monkeypatch):
    points = [ExperimentPoint(x=1.0, queries=200, policies=("random", "cheapest", "best-single"))]
    out = tmp_path / "rows.json"
    run, calls = ExperimentData.run, []

    def interrupted(self, point, seed, name):
        calls.append((seed, name))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(self, point, seed, name)

    monkeypatch.setattr(ExperimentData, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(experiment, points, [0, 1], {"experiment": "main"}, out)
    assert len(json.loads(out.read_text())["rows"]) == 3
    rows = run_all(experiment, points, [0, 1], {"experiment": "main"}, out)
    assert len(calls) == 4 + 3
    assert [(r["seed"], r["policy"]) for r in rows] == [(s, p) for s in (0, 1) for p in points[0].policies]
    with pytest.raises(ValueError, match="another experiment"):
        run_all(experiment, points, [0], {"experiment": "volume"}, out)


def test_reference_is_solved_once_for_all_orders(experiment, monkeypatch):
    solved = []
    decide = Offline.decide
    monkeypatch.setattr(Offline, "decide", lambda self, case: solved.append(self.name) or decide(self, case))
    point = ExperimentPoint(x=1.0, queries=200, policies=())
    rows = [experiment.run(point, 0, name) for name in ("random", "approx-optimum")]
    experiment.run(replace(point, order="task"), 0, "random")
    assert solved == ["approx-optimum"]
    assert rows[1]["relative"] == pytest.approx(100)


def test_run_with_a_cache_reuses_estimates(data, tmp_path):
    point = ExperimentPoint(x=1.0, queries=200, policies=())
    first = ExperimentData(*data, "made", tmp_path).run(point, 0, "port-best")
    assert list(tmp_path.glob("*.npz"))
    again = ExperimentData(*data, "made", tmp_path).run(point, 0, "port-best")
    assert again["performance"] == first["performance"]
