from dataclasses import replace

import pytest

from experiments.runs.runner import ExperimentPoint
from experiments.studies.equal_spend import at_equal_spend, search


def test_at_equal_spend_finds_the_budget_factor(experiment):
    point = ExperimentPoint(x=1.0, queries=200, policies=())
    case = experiment.case(point, 0)
    target = case.budgets.sum()
    for name in ("cheapest", "port", "random"):
        row = at_equal_spend(experiment, point, 0, name, tolerance=0.02)
        assert row["cost"] == pytest.approx(target, rel=0.02)
        assert row["reached"]
        # The factor explains the spend: the same policy spends as much at that factor, and less at 1.
        again = experiment.run(replace(point, factor=row["budget_factor"]), 0, name)
        assert (again["cost"], again["performance"]) == (row["cost"], row["performance"])
        assert experiment.run(point, 0, name)["cost"] < 0.98 * target
        assert row["relative"] == pytest.approx(
            100 * row["performance"] / experiment.reference(point, 0, case), abs=1e-3
        )


def test_search_scans_where_bisection_misses_and_returns_the_nearest_cost():
    def jumping(factor):
        """Return a spend that falls again between 1.3 and 1.7, and jumps over 1 except near 1.55."""
        near = abs(factor - 1.55) < 0.02
        return {"factor": factor, "cost": 1.0 if near else 0.8 if factor < 1.3 or 1.5 < factor < 1.7 else 1.2}

    best, tries = search(jumping, 1.0, 1.0, 0.01)
    assert best["cost"] == 1.0
    assert tries < 60
    best, _ = search(lambda f: {"factor": f, "cost": min(0.4 * f, 0.7)}, 1.0, 1.0, 0.01)
    assert best["cost"] == 0.7
    best, _ = search(lambda f: {"factor": f, "cost": 0.9 if f < 1.4 else 1.3}, 1.0, 1.0, 0.01)
    assert best["cost"] == 0.9
