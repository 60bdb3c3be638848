import json

import pytest

from experiments.policies.registry import Context, make_policy
from experiments.studies.definitions import STUDIES


def test_studies_name_existing_policies(tmp_path):
    for study in STUDIES.values():
        for policy in study.policies:
            if ".." not in policy:  # ".." stands for the values of the axis
                make_policy(policy, Context(rows=2000, table=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "values", "points"),
    [
        ("volume", "100,200", 2),
        ("llms", "2,3", 2),
        ("orders", "0,1,task", 3),
        ("budget", "0.5,2", 2),
        ("splits", "uniform,random3,extreme2", 3),
        ("eps", "0.05,0.2", 2),
        ("alpha", "1e-4,1e-2", 2),
        ("neighbours", "1,5", 2),
        ("history", "100,300", 2),
    ],
)
def test_study_command_runs_its_points_and_draws_them(command, tmp_path, name, values, points):
    more = [] if name in ("eps", "alpha", "neighbours") else ["--policies", "random,port,greedy-cost"]
    assert command(name, "--values", values, "--seeds", "0", "--plot", str(tmp_path / "p"), *more) == 0
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert len({str(row["x"]) for row in rows}) == points
    drawn = (tmp_path / "p.svg").read_text()
    assert "cost, USD" in drawn
    if name in ("eps", "neighbours", "history"):
        assert all(f">{value}<" in drawn for value in values.split(","))  # the ticks are the points
