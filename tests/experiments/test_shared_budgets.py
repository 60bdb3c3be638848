"""Cases with one shared total and with groups: budgets, accounting, policies, options."""

import json

import numpy as np
import pytest

from experiments.cases import Case, Split
from experiments.policies.registry import Context, make_policy
from experiments.studies.partitions import repeated
from tests.experiments.conftest import sample_data

SHARES = (40.0, 30.0, 15.0, 10.0, 5.0)
PORT = "port:k=5:warmup=history:resolve=every:solver=newton"


def a_case(groups=(), queries=200) -> Case:
    data, vectors = sample_data()
    split = Split.of(data, vectors, "made", queries, seed=0)
    return Case.of(split, 2.0, "shared", group_by="team" if groups else "", groups=groups)


def spent_of_groups(case: Case, choice: np.ndarray) -> dict[str, float]:
    outcome, spent = case.account(choice), {}
    for j in np.flatnonzero(outcome.counted):
        value = case.terms.values["metadata.team"][j]
        spent[value] = spent.get(value, 0.0) + case.cost[j, choice[j]]
    return spent


def test_shared_total_is_the_sum_of_its_split():
    case = a_case()

    assert case.shared[0].limit == pytest.approx(case.budgets.sum())


@pytest.mark.parametrize("prices", ["each", "one"])
def test_every_group_keeps_to_its_share(prices: str):
    case = a_case(SHARES)
    limits = case.shared[0].limits

    decisions = make_policy(f"{PORT}:prices={prices}", Context(500)).decide(case)

    spent = spent_of_groups(case, decisions.choice)
    assert list(limits.values()) == pytest.approx([case.total * share / 100 for share in SHARES])
    assert set(spent) == set(limits)
    assert all(spent[name] <= limits[name] * (1 + 1e-9) for name in limits)
    assert (decisions.choice >= 0).mean() > 0.5
    assert decisions.charged.sum() <= case.total


def test_a_price_for_each_group_serves_more_quality_than_one_price():
    case = a_case(SHARES)
    each, one = (
        case.account(make_policy(f"{PORT}:prices={prices}", Context(500)).decide(case).choice).performance
        for prices in ("each", "one")
    )

    assert each > one


def test_offline_optimum_of_a_shared_total_bounds_the_router():
    case = a_case()
    best = case.account(make_policy("optimum", Context(500)).decide(case).choice)
    routed = case.account(make_policy(PORT, Context(500)).decide(case).choice)

    assert routed.performance <= best.performance * 1.02


@pytest.mark.parametrize("name", ["greedy-cost", "port-published", "batchsplit"])
def test_policies_that_need_a_budget_per_llm_refuse_a_shared_total(name: str):
    with pytest.raises(ValueError, match="needs a budget for each LLM"):
        make_policy(name, Context(500)).decide(a_case())


def test_repeated_queries_keep_their_groups_and_scale_the_limits():
    case = a_case(SHARES)
    longer = repeated(case, 500)

    teams = np.array(case.terms.values["metadata.team"])
    assert list(longer.terms.values["metadata.team"]) == teams[longer.rows].tolist()
    assert sum(longer.shared[0].limits.values()) == pytest.approx(2.5 * case.total)


def test_main_with_shared_total_and_groups_writes_rows(command, tmp_path):
    options = ["--policies", PORT, "--split", "shared", "--group-by", "team", "--groups", "3,1"]

    assert command("main", *options) == 0
    (row,) = json.loads((tmp_path / "main.json").read_text())["rows"]
    assert (row["how"], row["groups"]) == ("shared", "3,1")
    assert 0 < row["cost"] <= row["budget"]
    # The second run finds the row.
    assert command("main", *options) == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--split", "weighted", "--group-by", "team", "--groups", "1,1"],
        ["--split", "shared", "--groups", "1,1"],
        ["--split", "shared", "--group-by", "team", "--groups", "1,x"],
    ],
)
def test_main_with_invalid_groups_fails(command, options, capsys):
    assert command("main", "--policies", PORT, *options) == 2
    assert "groups:" in capsys.readouterr().err


def test_partitions_command_with_keyed_groups(command, tmp_path):
    more = ["--policy", PORT, "--partitions", "4", "--budgets", "shared,groups", "--groups", "5"]

    assert command("partitions", *more, "--looks", "20") == 0
    rows = json.loads((tmp_path / "partitions.json").read_text())["rows"]
    assert {(row["budgets"], row["partitions"]) for row in rows} == {
        ("shared", 1),
        ("shared", 4),
        ("groups", 1),
        ("groups", 4),
    }
