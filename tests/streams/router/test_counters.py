"""Lanes with shared and grouped budgets: each query charges its counters, once, and settles to them."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.budgets.money import PICO, to_pico
from routing.policy.plan import Plan
from streams.ledger.account_format import counter_of
from streams.ledger.reservations import decode_reservations
from tests.streams.router.memory_router import (
    POOL,
    MemoryRouter,
    deliver_outcomes,
    ids,
    outcome_of,
    plan_with,
)
from tests.streams.stepped_router import MODELS, prompt_of

TOTAL = Budget("total", limit=1.0)
TEAM = Budget("team", group_by="metadata.team", limits={"ads": 0.5}, default=0.1)
RATE = Budget("few", unit="queries", limit=4, models=(MODELS[0],))


def plan_of(*budgets: Budget, **fields) -> Plan:
    """Return a plan that grants the limits of all counters to lane 0."""
    counters = Counters.of(budgets, MODELS)
    granted = np.zeros((3, len(counters)), dtype=np.int64)
    granted[0] = counters.limits()
    plain = {
        "counters": counters,
        "budgets": counters.limits(),
        "prices": np.full(len(counters), 1.0),
        "open": np.ones(len(counters), dtype=bool),
        "granted": granted,
        "target": granted,
        "overflow": False,
    }
    return plan_with(**(plain | fields))


def send(router: MemoryRouter, *names: str, **fields) -> None:
    for name in names:
        value = orjson.dumps({"id": name, "prompt": prompt_of(name), **fields})
        router.topics.add(router.names.queries, value, 0)


def spent(router: MemoryRouter, **metadata: str) -> int:
    queries = [q for q in router.routed() if not metadata or q.get("metadata") == metadata]
    return sum(int(to_pico(query["routing"]["cost"])) for query in queries)


def charged(router: MemoryRouter, *key: str | None) -> int:
    account = router.ledger(0).account
    assert account.counters is not None
    return int(account.charged[account.counters.column_of[key]])  # type: ignore[index]


def test_shared_total_is_charged_by_all_llms_and_survives_a_restart():
    router = MemoryRouter()
    router.plans.latest = plan_of(TOTAL)
    send(router, *ids(20))
    router.deliver(router.open_lane())
    first = charged(router, "total", None)
    assert first == spent(router) > 0

    send(router, *(f"r{number}" for number in range(20)))
    processor = router.open_lane()
    while router.deliver(processor, 7):
        pass

    assert charged(router, "total", None) == spent(router) > first
    assert len(router.routed()) == 40


def test_settlement_returns_to_the_counters_that_were_drawn_on():
    router = MemoryRouter()
    router.plans.latest = plan_of(TOTAL, TEAM)
    send(router, *ids(6), metadata={"team": "ads"})
    processor = router.open_lane()
    router.deliver(processor)
    assert charged(router, "total", None) == charged(router, "team", "ads") == spent(router)
    processor = router.open_lane()  # a restart rebuilds reservations from the topic
    for query in router.routed():
        router.topics.add(router.names.outcomes, outcome_of(query, 0.001))
    deliver_outcomes(router, processor)
    router.step(processor)

    assert charged(router, "total", None) == charged(router, "team", "ads") == 6 * int(to_pico(0.001))
    account = router.ledger(0).account
    assert account.use[account.counters.column_of["team", "ads"]].sum(0)[2] == 6 * int(to_pico(0.001))


def test_values_have_counters_of_their_own_and_new_ones_are_made():
    router = MemoryRouter()
    grants = np.zeros((3, 4), dtype=np.int64)
    grants[0] = PICO
    router.plans.latest = plan_of(TOTAL, TEAM, granted=grants, target=grants)
    processor = router.open_lane()
    for team in ("ads", "new", "newer"):
        send(router, *(f"{team}{number}" for number in range(5)), metadata={"team": team})
    send(router, "none")
    router.deliver(processor)

    for team in ("ads", "new"):
        assert charged(router, "team", team) == spent(router, team=team)
    assert charged(router, "total", None) == spent(router)
    keys = {counter_of(message.key()) for message in router.topics.of(router.names.ledger)} - {None}
    assert {("team", "ads"), ("team", "new"), ("team", "newer"), ("team", "")} <= keys


def test_ledger_record_does_not_grow_with_the_number_of_values():
    sizes = []
    for teams in (1, 200):
        router = MemoryRouter()
        router.plans.latest = plan_of(TOTAL, TEAM)
        processor = router.open_lane()
        for number in range(teams):
            send(router, f"q{number}", metadata={"team": f"team-{number}"})
        router.deliver(processor)
        before = len(router.topics.of(router.names.ledger))
        send(router, "last", metadata={"team": "team-0"})
        router.deliver(processor)
        written = router.topics.of(router.names.ledger)[before:]
        sizes.append(sum(len(message.value() or b"") for message in written))
    assert sizes[1] < sizes[0] + 100


def test_a_query_limit_stops_one_llm_and_the_reason_names_the_budget():
    router = MemoryRouter()
    router.plans.latest = plan_of(TOTAL, RATE, prices=np.zeros(2))
    send(router, *ids(12), models=[MODELS[0]])
    router.deliver(router.open_lane())

    unserved = [orjson.loads(message.value()) for message in router.topics.of(router.names.unserved)]
    assert len(router.routed()) == 4
    assert {(query["reason"], *query["routing"]["exhausted"]) for query in unserved} == {
        ("budget_exhausted", "few")
    }


def test_reservations_say_which_counters_they_drew_on():
    router = MemoryRouter()
    router.plans.latest = plan_of(TOTAL, TEAM, RATE)
    send(router, *ids(8), metadata={"team": "ads"})
    router.deliver(router.open_lane())

    (message,) = router.topics.of(router.names.reservations)
    reserved = decode_reservations(message.value())
    assert reserved.counters is not None
    assert len(reserved.available) == len(reserved.counters)
    for model, row in zip(reserved.model, reserved.columns, strict=True):
        drawn = {reserved.counters[position] for position in row if position >= 0}
        expected = {("total", None), ("team", "ads")} | ({("few", None)} if model == 0 else set())
        assert drawn == expected


@pytest.mark.parametrize(
    ("fields", "excluded"),
    [
        ({"models": ["!*"]}, "models"),
        ({"max_cost_usd": 0}, "max_cost_usd"),
        ({"min_quality": 1.0}, "min_quality"),
        ({"parameters": {"tools": [{"type": "function"}]}}, "capability tools"),
        ({"max_tokens": 10_000}, "context_window"),
    ],
)
def test_query_without_eligible_llm_says_what_excluded_each(fields: dict, excluded: str):
    router = MemoryRouter()
    router.plans.latest = plan_of(TOTAL)
    for name, model in router.catalogue.models.items():
        limits = {"context_window": 8000, "capabilities": ("vision",)}
        router.catalogue.models[name] = type(model)(name, **limits)
    send(router, "plain")
    send(router, "limited", **fields)
    router.deliver(router.open_lane())

    assert [query["id"] for query in router.routed()] == ["plain"]
    (unserved,) = [orjson.loads(message.value()) for message in router.topics.of(router.names.unserved)]
    assert unserved["reason"] == "no_eligible_llm"
    assert unserved["routing"]["excluded"] == dict.fromkeys(MODELS, excluded)


def test_deferred_query_draws_on_the_counter_of_its_value():
    router = MemoryRouter()
    counters = Counters.of((TOTAL, TEAM), MODELS)
    granted = np.zeros((3, len(counters)), dtype=np.int64)
    granted[POOL] = counters.limits()
    router.plans.latest = plan_of(TOTAL, TEAM, granted=granted, target=granted, overflow=True)
    send(router, *ids(4), metadata={"team": "ads"})
    router.deliver(router.open_lane())
    router.deliver(router.open_lane(POOL))

    account = router.ledger(POOL).account
    assert account.charged[account.counters.column_of["team", "ads"]] == spent(router) > 0


UNUSABLE = {
    "missing": ({}, "is missing or null;"),
    "null": ({"team": None}, "is missing or null;"),
    "number": ({"team": 7}, "7"),
    "list": ({"team": ["ads"]}, "list"),
    "empty": ({"team": ""}, "'', of 0 characters,"),
    "long": ({"team": "x" * 257}, f"'{'x' * 56}..., of 257 characters,"),
}
REQUIRED = replace(TEAM, required=True)


@pytest.mark.parametrize("waiting", [False, True])
def test_query_without_a_required_value_becomes_a_dead_letter_that_says_why(waiting: bool):
    router = MemoryRouter()
    router.plans.latest = plan_of(TOTAL, REQUIRED, learned=not waiting, until=10 if waiting else None)
    for name, (metadata, _) in UNUSABLE.items():
        send(router, name, metadata=metadata)
    send(router, "longest", metadata={"team": "y" * 256})
    processor = router.open_lane()
    router.deliver(processor)
    if waiting:
        assert router.samples() == [(1, 0, len(UNUSABLE), len(UNUSABLE) + 1, 1)]
        router.plans.latest = plan_of(TOTAL, REQUIRED, revision=6)
        router.deliver(processor)

    letters = {
        orjson.loads(one.value())["id"]: dict(one.headers()) for one in router.topics.of(router.names.dlq)
    }
    assert {name: letters[name]["__router.errors.exception.message"].decode() for name in UNUSABLE} == {
        name: f"metadata.team: {shown} must be a text of 1 to 256 characters, because the budget team "
        "requires it; add the value, or remove `required` from the budget"
        for name, (_, shown) in UNUSABLE.items()
    }
    assert router.ledger(0).account.dead == len(letters) == len(UNUSABLE)
    assert [query["id"] for query in router.routed()] == ["longest"]
    assert charged(router, "total", None) == spent(router)


def test_required_value_of_a_header_is_read_and_a_removed_budget_requires_nothing():
    tenant = Budget("tenant", group_by="header:tenant", default=1.0, required=True)
    router = MemoryRouter()
    router.plans.latest = plan_of(TOTAL, tenant)
    router.send("with", headers=[("tenant", b"acme")])
    router.send("odd", headers=[("tenant", b"\xff")])
    processor = router.open_lane()
    router.deliver(processor)
    assert router.places()["odd"] == ["dlq"]
    (letter,) = router.topics.of(router.names.dlq)
    message = dict(letter.headers())["__router.errors.exception.message"].decode()
    assert message.startswith("header:tenant: is missing, or not UTF-8; must be a text")

    router.plans.latest = plan_of(TOTAL, replace(tenant, models=()), revision=6)
    router.send("without")
    router.deliver(processor)
    assert [query["id"] for query in router.routed()] == ["with", "without"]
