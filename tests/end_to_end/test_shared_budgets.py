"""Shared and grouped budgets on Apache Kafka: the stream decides as the simulation, and the audit holds."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
import yaml

from producers.evaluation.prepared_data import CATALOGUE
from routing.budgets.terms import QueryTerms
from routing.embedding.query_batch import QueryBatch
from routing.policy.decision import UNSERVED
from routing.simulation import simulate
from streams.audit.outputs import SERVED
from streams.config.planning_settings import planning_settings
from streams.messages.query import decode_query, stack_embeddings
from streams.planner.plan_reader import plan_in_force
from streams.router.estimation import load_estimation
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import command
from tests.end_to_end.recorded_schemas import assert_records_fit_their_schemas
from tests.end_to_end.recorded_topics import Recorded
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.small_dataset import Small, make_small
from tests.end_to_end.worker_process import Worker, wait_for

TEAMS = ("search", "ads", "", "late")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return make_small(tmp_path_factory.mktemp("shared"), "open_llm_v2", 500, 1000)


def with_budgets(small: Small, *budgets: dict[str, Any]) -> Small:
    """Return the data set with one total for all LLMs, and further budgets as shares of it."""
    path = small.folder / CATALOGUE
    data = yaml.safe_load(path.read_text())
    total = data.get("budget_usd") or sum(model["budget_usd"] for model in data["models"])
    models = [{k: v for k, v in model.items() if k != "budget_usd"} for model in data["models"]]
    listed = [
        {
            **budget,
            **{name: budget[name] * total for name in ("limit_usd", "default") if name in budget},
            **({"limits": {k: v * total for k, v in budget["limits"].items()}} if "limits" in budget else {}),
        }
        for budget in budgets
    ]
    path.write_text(yaml.safe_dump({"budget_usd": total, "budgets": listed, "models": models}))
    return replace(small)


def team_of(row: int) -> str:
    return TEAMS[row % len(TEAMS)]


def send(router: Router, count: int) -> None:
    for row in range(count):
        identity, value = router.query(row)
        fields = orjson.loads(value)
        if team_of(row):
            fields["metadata"] = {"team": team_of(row)}
        fields["weight"] = 1 + row % 3
        router.send_raw(
            identity, orjson.dumps(fields), partition=row % router.settings.partitions, flush=False
        )
    router.producer.flush(60)


def simulated(router: Router, count: int) -> np.ndarray:
    estimating = load_estimation(router.settings, router.catalogue)
    settings = planning_settings(router.settings.with_preset(estimating.planning))
    queries = [decode_query(router.query(row)[1], estimating.dimension) for row in range(count)]
    matrix = stack_embeddings(queries, estimating.dimension).matrix
    estimates = estimating.estimator.estimate(QueryBatch([query.prompt for query in queries], matrix))
    terms = QueryTerms(
        weight=np.array([1.0 + row % 3 for row in range(count)]),
        values={"metadata.team": [team_of(row) for row in range(count)]},
    )
    return simulate(
        estimates,
        estimating.budgets(router.catalogue),
        settings,
        models=router.catalogue.names,
        history=estimating.leave_one_out() if settings.uses_history else None,
        terms=terms,
    ).choice


def limit_of(stream: Router, counter: str) -> int:
    plan = plan_in_force(stream.settings)
    assert plan is not None
    return int(plan.budgets[plan.counters.names.index(counter)])


def check_reasons(stream: Router, names: set[str]) -> None:
    """Check that each unserved query says why, and which budget is exhausted."""
    with stream.logs() as logs:
        unserved = [orjson.loads(entry.value or b"") for entry in logs.read(stream.topics.unserved)]
    assert unserved
    for query in unserved:
        exhausted = set(query["routing"].get("exhausted") or ())
        assert query["reason"] in ("not_worth_it", "budget_exhausted")
        assert bool(exhausted) == (query["reason"] == "budget_exhausted"), query
        assert exhausted <= names


def check_terms(stream: Router, worker: Worker, first: int) -> None:
    """Send queries that no LLM may answer, and fields that resemble known ones; check reasons and log."""
    special: list[dict[str, Any]] = [
        {"deadline": 1000, "priority": 3},
        {"models": ["!*"], "priority": 3, "model": "x"},
    ]
    for row, fields in enumerate(special, first):
        identity, value = stream.query(0, f"special{row}")
        stream.send_raw(identity, orjson.dumps({**orjson.loads(value), **fields}))
    stream.all_landed()
    with stream.logs() as logs:
        bodies = [orjson.loads(entry.value or b"") for entry in logs.read(stream.topics.unserved)]
    by_reason = {one["reason"]: one["routing"] for one in bodies if one["id"].startswith("special")}
    assert by_reason.keys() == {"expired", "no_eligible_llm"}
    excluded = by_reason["no_eligible_llm"]["excluded"]
    assert excluded == dict.fromkeys(stream.catalogue.names, "models")
    noted = [(event["field"], event["similar_to"]) for event in worker.events("field_has_no_effect")]
    assert sorted(noted) == [("model", "models"), ("priority", "weight")], "each once"
    explained = command(stream, "explain", next(b["id"] for b in bodies if b["reason"] == "no_eligible_llm"))
    assert "excluded: models" in explained


@pytest.mark.parametrize(
    "budgets",
    [
        pytest.param([], id="total"),
        pytest.param(
            [
                {"name": "team", "group_by": "metadata.team", "limits": {"search": 0.4}, "default": 0.2},
                {"name": "few", "limit_queries": 40, "models": ["*"]},
            ],
            id="total-teams-queries",
        ),
    ],
)
def test_stream_with_shared_budgets_decides_as_the_simulation(
    router: MakeRouter, small: Small, budgets: list
) -> None:
    stream = router(with_budgets(small, *budgets), lockstep="true", resolve="geometric")
    count = len(small.prepared.queries)
    worker = stream.start()
    send(stream, count)
    expected = simulated(stream, count)
    stream.all_landed(150)
    assert_whole(stream)
    models = {name: number for number, name in enumerate(stream.catalogue.names)}
    choice = []
    for place in sorted(stream.sent):
        (landing,) = stream.landed[place]
        choice.append(models[landing.model] if landing.kind == SERVED else UNSERVED)
    assert choice == expected.tolist()
    assert 0 < sum(one >= 0 for one in choice) < count

    check_reasons(stream, {"total", "few", *(f"team={team}" for team in TEAMS)} if budgets else {"total"})
    wait_for(lambda: stream.plan().period == 2, 60, "the second period")
    counter = "team=search" if budgets else "total"
    limit = limit_of(stream, counter)
    command(stream, "plan", "top-up", counter, "20")
    wait_for(lambda: limit_of(stream, counter) == limit + 20 * 10**12, 60, "the limit is raised")
    assert f"{counter}: limit raised by 20 USD" in command(stream, "plan", "show")
    assert_whole(stream)

    # Each threshold that a counter reached is one event; the audit compares them with the bills.
    with stream.logs() as logs:
        events = [orjson.loads(entry.value or b"") for entry in logs.read(stream.topics.budget_events)]
    reached = {(e["budget"], e["threshold"]) for e in events if e["event"] == "used" and e["period"] == 1}
    assert ("few" if budgets else "total", 0.8) in reached
    assert ("team" in {e["budget"] for e in events}) == bool(budgets)

    # The bill of one budget, or one of its values, by LLM.
    budget, _, value = counter.partition("=")
    chosen = ["bill", "--budget", budget, *(["--value", value] if value else [])]
    served = [
        one for row, one in enumerate(choice) if one != UNSERVED and (not value or team_of(row) == value)
    ]
    (bill,) = orjson.loads(command(stream, *chosen, "--period", "1", "--json"))
    (billed,) = bill["budgets"]
    assert (billed["budget"], billed["value"]) == (budget, value or None)
    assert sum(llm["served"] for llm in billed["llms"]) == len(served)
    assert billed["charged"] == pytest.approx(sum(llm["reserved"] for llm in billed["llms"]))
    assert 0 < billed["charged"] <= billed["limit"]
    lines = command(stream, *chosen, "--period", "1", "--csv").splitlines()
    assert len(lines) == 2 + len(billed["llms"])
    assert f"{counter} " in command(stream, *chosen)

    check_terms(stream, worker, count)
    assert_whole(stream)
    with stream.logs() as logs:
        counts = assert_records_fit_their_schemas(Recorded.of(logs, stream.topics))
    expected = {"period", "budget-event", "top-up", "heartbeat", "timeline-point"}
    expected |= {"plan-counter", "period-counter", "ledger-counter"} if budgets else set()
    assert not expected - {*counts}, counts
