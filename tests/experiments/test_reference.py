"""The published implementation's own figures, on the same rows, splits and budgets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.last_bits import spread
from experiments.policies.oracles import Offline
from experiments.policies.port import Port
from experiments.registry import EXACT
from experiments.running import Laboratory, Setting
from experiments.sources import NeighbourSource
from routing.datasets import load_dataset
from routing.simulate import account_for
from routing.unit import as_stored

SHARED = Path(os.environ.get("PORT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
SETS = {"open_llm_v2": "open_llm", "routerbench_subset": "routerbench_subset"}
SETTING = Setting(x=1.0, queries=1000, policies=())


PROTOTYPE = {"open_llm_v2": (8000, (0,), 97.5, 100.5), "routerbench_subset": (1500, (0, 1, 2), 81.0, 100.4)}
"""Queries, seeds, and what a prototype of the exact program reached, solved once and again and again."""

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


@pytest.fixture(scope="module", params=SETS)
def reference(request):
    return loaded(request.param)


def loaded(name):
    """A laboratory on a set, and the published implementation's figures."""
    table = SHARED / "data" / f"{name}.parquet"
    figures = SHARED / "reference" / f"{SETS[name]}.json"
    for path in (table, figures):
        if not path.exists():
            pytest.skip(f"{path} is not here; set PORT_SHARED to the folder that has data/ and reference/")
    vectors = as_stored(np.load(table.with_suffix(".minilm.f16.npy")))
    laboratory = Laboratory(load_dataset(table), vectors, "all-MiniLM-L6-v2")
    return laboratory, json.loads(figures.read_text())


def test_budgets_and_the_linear_programs_are_the_same(reference):
    laboratory, expected = reference
    case = laboratory.case(SETTING, 0)
    budgets = dict(zip(case.models, case.budgets, strict=True))
    for name, budget in expected["budgets"].items():
        assert budgets[name] == pytest.approx(budget, rel=1e-9)
    for name, policy in (("approx_optimum", Offline("a", EXACT)), ("optimum", Offline("o"))):
        # one query of the leaderboard has another of two tied neighbours: 379.5005 for 379.5019
        objective = policy.solution(case).objective
        assert objective == pytest.approx(expected["results"][name]["lp_objective"], rel=1e-5)


@pytest.mark.parametrize(
    "name", ["greedy-perf", "greedy-cost", "knn-perf", "knn-cost", "approx-optimum", "optimum"]
)
def test_deterministic_policies_agree_to_one_per_cent(reference, name):
    laboratory, expected = reference
    row, figures = laboratory.run(SETTING, 0, name), expected["results"][name.replace("-", "_")]
    for measure in ("performance", "cost", "throughput"):
        assert row[measure] == pytest.approx(figures[measure], rel=0.01), measure


def test_batchsplit_agrees_as_far_as_its_programs_have_one_answer(reference):
    laboratory, expected = reference
    row, figures = laboratory.run(SETTING, 0, "batchsplit"), expected["results"]["batchsplit"]
    # estimates of five neighbours are multiples of 0.2, so that many assignments of a batch are equally good
    # on paper and not in truth; at relative gaps of 0.02, 0.005 and 0.0005 the leaderboard gives 152 (158)
    assert row["performance"] == pytest.approx(figures["performance"], rel=0.04)
    assert row["cost"] == pytest.approx(figures["cost"], rel=0.02)
    assert row["throughput"] == pytest.approx(figures["throughput"], rel=0.01)


@pytest.mark.parametrize("alpha", [1e-5, 1e-4, 1e-3])
def test_the_published_form_is_within_what_last_bits_make_of_it(reference, alpha):
    laboratory, expected = reference
    case = laboratory.case(SETTING, 0)
    case = case.with_budgets(np.array([expected["budgets"][name] for name in case.models]))
    rows = spread(case, alpha, [0, 1, 2], draws=30, size=1e-15, figures=expected)
    assert [row["published"] for row in rows] == [
        expected["results"][f"port_published alpha={alpha} seed={seed}"]["performance"] for seed in range(3)
    ]
    for row in rows:
        # one query more or less, and 2 %: neighbours of equal similarity are not taken in the same order
        margin = 1 + 0.02 * row["published"]
        assert row["least"] - margin <= row["published"] <= row["most"] + margin


@pytest.mark.parametrize("name", SETS)
def test_port_reaches_the_prototypes_rows(name):
    """`port` at k = 5 with buffered queries routed by the prices too, in % of the approximate optimum.

    Prices learned once, and again at 2, 4, 8, ... times eps N: within 1.5 points of the prototype's rows. On
    RouterBench prices learned once rest on 38 queries, and seeds 0 to 2 lie between 60 and 95: there the mean
    of three seeds is held within 8 points.
    """
    queries, seeds, once, geometric = PROTOTYPE[name]
    laboratory, _ = loaded(name)
    saved = json.loads((RESULTS / f"main-{name}-{queries}.json").read_text())["rows"]
    optimum = {row["seed"]: row["performance"] for row in saved if row["policy"] == "approx-optimum"}
    reached = {"once": [], "geometric": []}
    for seed in seeds:
        case = laboratory.case(Setting(x=1.0, queries=queries, policies=()), seed)
        for resolve, found in reached.items():
            planning = {"warmup": "buffer", "resolve": resolve, "solver": "newton"}
            choice = Port("port", NeighbourSource(own=False), planning).decide(case).choice
            outcome = account_for(choice, case.quality, case.cost, case.budgets)
            found.append(100 * outcome.performance / optimum[seed])
    assert np.mean(reached["once"]) == pytest.approx(once, abs=1.5 if len(seeds) == 1 else 8)
    assert np.mean(reached["geometric"]) == pytest.approx(geometric, abs=1.5)


def test_the_router_beats_the_published_form_by_far(reference):
    laboratory, _ = reference
    assert (
        laboratory.run(SETTING, 0, "port:resolve=geometric")["relative"]
        > laboratory.run(SETTING, 0, "port-published")["relative"] + 10
    )
