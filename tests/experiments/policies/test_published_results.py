"""Agreement with figures of the published implementation on the same rows, splits and budgets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.estimates.sources import NeighbourSource
from experiments.policies.oracles import Offline
from experiments.policies.port import Port
from experiments.policies.registry import EXACT
from experiments.runs.results import read_results
from experiments.runs.runner import ExperimentData, ExperimentPoint
from experiments.studies.rounding import spread
from routing.accounting import account_for
from routing.datasets.load import load_dataset
from routing.embedding.unit_vectors import as_stored
from tests.conftest import ROOT

SHARED = Path(os.environ.get("PORT_SHARED", ROOT.parent / "shared"))
SETS = {"open_llm_v2": "open_llm", "routerbench_subset": "routerbench_subset"}
POINT = ExperimentPoint(x=1.0, queries=1000, policies=())


PROTOTYPE = {"open_llm_v2": (8000, (0,), 97.5, 100.5), "routerbench_subset": (1500, (0, 1, 2), 81.0, 100.4)}
"""Queries, seeds, and per cent that a prototype reached with prices solved once, and repeatedly."""

RESULTS = ROOT / "docs" / "results"


@pytest.fixture(scope="module", params=SETS)
def reference(request):
    return loaded(request.param)


def loaded(name):
    """Load a data set and the figures of the published implementation."""
    table = SHARED / "data" / f"{name}.parquet"
    figures = SHARED / "reference" / f"{SETS[name]}.json"
    for path in (table, figures):
        if not path.exists():
            pytest.skip(f"{path} is missing; set PORT_SHARED to the folder that has data/ and reference/")
    vectors = as_stored(np.load(table.with_suffix(".minilm.f16.npy")))
    experiment = ExperimentData(load_dataset(table), vectors, "all-MiniLM-L6-v2")
    return experiment, json.loads(figures.read_text())


def test_budgets_and_linear_programs_equal_the_published_ones(reference):
    experiment, expected = reference
    case = experiment.case(POINT, 0)
    budgets = dict(zip(case.models, case.budgets, strict=True))
    for name, budget in expected["budgets"].items():
        assert budgets[name] == pytest.approx(budget, rel=1e-9)
    for name, policy in (("approx_optimum", Offline("a", EXACT)), ("optimum", Offline("o"))):
        # One query of the leaderboard gets the other of two tied neighbours: 379.5005 for 379.5019.
        objective = policy.solution(case).objective
        assert objective == pytest.approx(expected["results"][name]["lp_objective"], rel=1e-5)


@pytest.mark.parametrize(
    "name", ["greedy-perf", "greedy-cost", "knn-perf", "knn-cost", "approx-optimum", "optimum"]
)
def test_deterministic_policies_agree_to_one_per_cent(reference, name):
    experiment, expected = reference
    row, figures = experiment.run(POINT, 0, name), expected["results"][name.replace("-", "_")]
    for measure in ("performance", "cost", "throughput"):
        assert row[measure] == pytest.approx(figures[measure], rel=0.01), measure


def test_batchsplit_agrees_within_the_ambiguity_of_its_programs(reference):
    experiment, expected = reference
    row, figures = experiment.run(POINT, 0, "batchsplit"), expected["results"]["batchsplit"]
    # Estimates of five neighbours are multiples of 0.2: many assignments of a batch have equal estimates but
    # different results. At relative gaps of 0.02, 0.005 and 0.0005 the leaderboard gives 152 (158).
    assert row["performance"] == pytest.approx(figures["performance"], rel=0.04)
    assert row["cost"] == pytest.approx(figures["cost"], rel=0.02)
    assert row["throughput"] == pytest.approx(figures["throughput"], rel=0.01)


@pytest.mark.parametrize("alpha", [1e-5, 1e-4, 1e-3])
def test_published_form_is_within_its_spread_by_rounding(reference, alpha):
    experiment, expected = reference
    case = experiment.case(POINT, 0)
    case = case.with_budgets(np.array([expected["budgets"][name] for name in case.models]))
    rows = spread(case, alpha, [0, 1, 2], draws=12, size=1e-15, figures=expected)
    assert [row["published"] for row in rows] == [
        expected["results"][f"port_published alpha={alpha} seed={seed}"]["performance"] for seed in range(3)
    ]
    for row in rows:
        # One query and 2 %: neighbours of equal similarity come in another order.
        margin = 1 + 0.02 * row["published"]
        assert row["least"] - margin <= row["published"] <= row["most"] + margin


@pytest.mark.parametrize("name", SETS)
def test_port_reaches_the_performance_of_the_prototype(name):
    """Compare `port` at k = 5, also routing buffered queries by the prices, in % of the approximate optimum.

    With prices learned once, and again at 2, 4, 8, ... times eps N, it is within 1.5 points of the prototype.
    On RouterBench, prices learned once rest on 38 queries and seeds 0 to 2 lie between 60 and 95. There the
    mean of three seeds is compared within 8 points.
    """
    queries, seeds, once, geometric = PROTOTYPE[name]
    experiment, _ = loaded(name)
    saved = read_results(RESULTS / f"main-{name}-{queries}.json")["rows"]
    optimum = {row["seed"]: row["performance"] for row in saved if row["policy"] == "approx-optimum"}
    relative = {"once": [], "geometric": []}
    for seed in seeds:
        case = experiment.case(ExperimentPoint(x=1.0, queries=queries, policies=()), seed)
        for resolve, values in relative.items():
            planning = {
                "warmup": "buffer",
                "resolve": resolve,
                "solver": "newton",
                "top_up_samples": False,
            }
            choice = Port("port", NeighbourSource(own=False), planning).decide(case).choice
            outcome = account_for(choice, case.quality, case.cost, case.budgets)
            values.append(100 * outcome.performance / optimum[seed])
    assert np.mean(relative["once"]) == pytest.approx(once, abs=1.5 if len(seeds) == 1 else 8)
    assert np.mean(relative["geometric"]) == pytest.approx(geometric, abs=1.5)


def test_port_beats_the_published_form_by_ten_points(reference):
    experiment, _ = reference
    assert (
        experiment.run(POINT, 0, "port:resolve=geometric")["relative"]
        > experiment.run(POINT, 0, "port-published")["relative"] + 10
    )
