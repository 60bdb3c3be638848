"""The published implementation's own figures, on the same rows, splits and budgets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.last_bits import spread
from experiments.policies.oracles import Offline
from experiments.registry import EXACT
from experiments.running import Laboratory, Setting
from routing.datasets import load_dataset
from routing.unit import normalised

SHARED = Path(os.environ.get("PORT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
SETS = {"open_llm_v2": "open_llm", "routerbench_subset": "routerbench_subset"}
SETTING = Setting(x=1.0, queries=1000, policies=())


@pytest.fixture(scope="module", params=SETS)
def reference(request):
    table = SHARED / "data" / f"{request.param}.parquet"
    figures = SHARED / "reference" / f"{SETS[request.param]}.json"
    for path in (table, figures):
        if not path.exists():
            pytest.skip(f"{path} is not here; set PORT_SHARED to the folder that has data/ and reference/")
    vectors = normalised(np.load(table.with_suffix(".minilm.f16.npy")))
    laboratory = Laboratory(load_dataset(table), vectors, "all-MiniLM-L6-v2")
    return laboratory, json.loads(figures.read_text())


def test_budgets_and_the_linear_programs_are_the_same(reference):
    laboratory, expected = reference
    case = laboratory.case(SETTING, 0)
    budgets = dict(zip(case.models, case.budgets, strict=True))
    for name, budget in expected["budgets"].items():
        assert budgets[name] == pytest.approx(budget, rel=1e-9)
    for name, policy in (("approx_optimum", Offline("a", EXACT)), ("optimum", Offline("o"))):
        objective = policy.solution(case).objective
        assert objective == pytest.approx(expected["results"][name]["lp_objective"], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs", "within"),
    [
        ("approx-optimum", "approx_optimum", 0.01),
        ("optimum", "optimum", 0.01),
        ("knn-perf", "knn_perf", 0.01),
        # ties among neighbours alone move this by 3 % on open_llm_v2 (124 to 129, five searches tried)
        ("knn-cost", "knn_cost", 0.03),
        # the integer programs have many optima: 151 to 153 and 259 to 264 here, 158 and 266 published
        ("batchsplit", "batchsplit", 0.05),
    ],
)
def test_deterministic_policies_agree(reference, name, theirs, within):
    laboratory, expected = reference
    row, figures = laboratory.run(SETTING, 0, name), expected["results"][theirs]
    assert row["performance"] == pytest.approx(figures["performance"], rel=within)
    assert row["cost"] == pytest.approx(figures["cost"], rel=max(within, 0.02))


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


def test_the_router_beats_the_published_form_by_far(reference):
    laboratory, _ = reference
    assert (
        laboratory.run(SETTING, 0, "port:resolve=geometric")["relative"]
        > laboratory.run(SETTING, 0, "port-published")["relative"] + 10
    )
