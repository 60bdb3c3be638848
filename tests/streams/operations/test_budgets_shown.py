"""Allow rules, token budgets, and counters as `plan show` and `explain` show them, with exact values."""

from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from routing.budgets.allow import AllowRule
from routing.budgets.budget import Budget
from routing.budgets.money import PICO, to_usd
from streams.ledger.reservations import decode_reservations
from streams.messages.query import decode_query
from streams.messages.request_needs import estimated_prompt_tokens
from streams.operations.explained_counters import shown_counters, unaffordable
from streams.operations.plan_table import holdings, plan_lines
from streams.operations.recompute import available_before
from tests.streams.memory_stream import MemoryStream
from tests.streams.router.memory_router import POOL, MemoryRouter
from tests.streams.stepped_router import MODELS, prompt_of

TOTAL = Budget("total", limit=1.0)
TEAM = Budget("team", group_by="metadata.team", limits={"ads": 0.5}, default=0.1)
TOKENS = Budget("tokens", unit="tokens", limit=3000, models=(MODELS[0],))


def allow(stream: MemoryStream, *rules: AllowRule) -> None:
    stream.router.catalogue.latest = SimpleNamespace(version=0, catalogue=SimpleNamespace(allow=rules))


def models_of(router: MemoryRouter, **fields: object) -> set[str]:
    return {
        query["routing"]["model"]
        for query in router.routed()
        if all(query.get(name) == value for name, value in fields.items())
    }


@pytest.mark.parametrize("overflow", [True, False])
def test_allow_rule_limits_the_llms_of_a_value(overflow: bool):
    stream = MemoryStream(TOTAL, horizon=40 if overflow else 4000)
    allow(stream, AllowRule("metadata.region", ("eu", "ch"), (MODELS[1],)))
    for _ in range(8):
        for region in ("eu", "us"):
            stream.send(2, metadata={"region": region})
        stream.round(1.0)
    assert models_of(stream.router, metadata={"region": "eu"}) == {MODELS[1]}
    assert models_of(stream.router, metadata={"region": "us"}) - {MODELS[1]}
    lanes = {query["routing"]["partition"] for query in stream.router.routed()}
    assert lanes == {POOL} if overflow else 0 in lanes


def test_allow_rule_by_header_holds_for_a_deferred_query():
    stream = MemoryStream(TOTAL, horizon=40)
    allow(stream, AllowRule("header:tenant", ("bank",), ("!" + MODELS[2],)))
    for number, tenant in enumerate((b"bank", b"shop", b"bank", b"shop")):
        value = orjson.dumps(
            {"id": f"h{number}", "prompt": prompt_of(f"h{number}"), "tenant": tenant.decode()}
        )
        stream.topics.add(stream.names.queries, value, 0, [("tenant", b"shop"), ("tenant", tenant)])
    stream.round()
    assert stream.served() == 4
    assert {query["routing"]["partition"] for query in stream.router.routed()} == {POOL}
    assert MODELS[2] not in models_of(stream.router, tenant="bank")
    assert MODELS[2] in models_of(stream.router, tenant="shop")


def test_query_that_no_allowed_llm_may_answer_says_so():
    stream = MemoryStream(TOTAL)
    allow(stream, AllowRule("metadata.region", ("eu",), (MODELS[0],)))
    stream.send(1, metadata={"region": "eu"}, models=[MODELS[1]])
    stream.round()
    (message,) = stream.topics.of(stream.names.unserved)
    body = orjson.loads(message.value() or b"")
    assert body["reason"] == "no_eligible_llm"
    rule = "allow metadata.region"
    assert body["routing"]["excluded"] == {MODELS[0]: "models", MODELS[1]: rule, MODELS[2]: "models"}


def test_token_budget_counts_prompt_and_answer_and_settles_to_the_used_ones():
    stream = MemoryStream(TOKENS)
    stream.send(8, models=[MODELS[0]], max_tokens=500)
    stream.send(2, models=[MODELS[1]], max_tokens=500)
    stream.round()

    drawn = [query for query in stream.router.routed() if query["routing"]["model"] == MODELS[0]]
    prompts = [estimated_prompt_tokens(decode_query(orjson.dumps(query), None)) for query in drawn]
    assert len(drawn) == 3000 // (500 + max(prompts)) == 5
    assert stream.charged("tokens", None) == sum(prompts) + 5 * 500
    assert stream.unserved() == {("budget_exhausted", "tokens"): 3}

    stream.settle(1.0, tokens=100)
    stream.round()
    assert stream.charged("tokens", None) == 5 * 100
    stream.send(1, models=[MODELS[0]], max_tokens=2400)
    stream.round()
    assert len(stream.router.routed()) == 8
    stream.settle(1.0)
    stream.round()
    assert stream.charged("tokens", None) > 5 * 100 + 2400, "unknown tokens stay as reserved"


def test_plan_shows_what_lanes_and_pool_hold_of_each_counter():
    stream = MemoryStream(TOTAL, TEAM, TOKENS, horizon=4000)
    for _ in range(10):
        stream.send(2, metadata={"team": "ads"}, max_tokens=50)
        stream.round(1.0)
    charged, unspent, pool = holdings(stream.plan, stream.ledgers())
    names = stream.plan.counters.names
    assert (charged + unspent + pool == stream.plan.budgets).all()
    assert charged.tolist() == [stream.charged(*key) for key in stream.plan.counters.keys]
    assert charged[names.index("total")] == charged[names.index("team=ads")] > 0
    rows = {
        line.split()[0]: line.split()[1:]
        for line in plan_lines(stream.plan, stream.ledgers())
        if line.split()[:1] and line.split()[0] in names
    }
    for column, (name, unit) in enumerate(zip(names, ("usd", "tokens", "usd", "usd", "usd"), strict=True)):
        amounts = [int(array[column]) for array in (stream.plan.budgets, charged, unspent, pool)]
        shown = [f"{to_usd(one):.6f}" if unit == "usd" else str(one) for one in amounts]
        assert rows[name] == [f"{stream.plan.prices[column]:.4g}", *shown]


def test_explain_shows_what_the_lane_had_of_each_counter_before_the_query():
    stream = MemoryStream(TOTAL, TEAM, TOKENS)
    stream.send(4, metadata={"team": "ads"}, models=list(MODELS[:1]), max_tokens=300)
    stream.round()
    (message,) = stream.topics.of(stream.names.reservations, POOL)
    reserved = decode_reservations(message.value() or b"")
    assert len(reserved.offsets) == 4
    units = {budget.name: budget.unit for budget in stream.plan.counters.budgets}
    granted = stream.plan.granted[POOL]
    column_of = stream.plan.counters.column_of
    for row in range(4):
        before = available_before(reserved, int(reserved.offsets[row]), row, units)
        shown = {one["name"]: one for one in shown_counters(stream.plan, reserved, before)}
        usd, tokens = int(reserved.charge[:row].sum()), int(reserved.tokens[:row].sum())
        assert shown["total"] == {
            "name": "total",
            "unit": "usd",
            "price": float(stream.plan.prices[column_of["total", None]]),
            "available_before": pytest.approx((PICO - usd) / PICO),
        }
        ads = granted[column_of["team", "ads"]]
        assert shown["team=ads"]["available_before"] == pytest.approx(float(to_usd(ads - usd)))
        assert (shown["tokens"]["unit"], shown["tokens"]["available_before"]) == ("tokens", 3000 - tokens)
        counters, left = list(shown.values()), float(to_usd(ads - usd))
        assert unaffordable(stream.plan, counters, 0, int(0.5 * left * PICO)) == []
        assert unaffordable(stream.plan, counters, 0, int(1.1 * left * PICO)) == ["team=ads"]
    assert np.all(reserved.tokens > 300)
