"""Schemas of plans and bills accept what the router writes, and need the fields that decoders need."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.policy.pause import Pause
from routing.policy.plan import Plan
from routing.policy.price_origin import PriceOrigin
from streams.ledger.period_messages import PeriodAssembler, period_messages
from streams.ledger.period_summary import CounterTotal, PeriodSummary, decode_period, encode_period
from streams.messages.json_schemas import message_schema
from streams.messages.plan import PLAN_KEY, PlanAssembler, decode_plan, encode_plan, plan_messages
from tests.streams.messages.schema_strategies import (
    assert_accepted,
    assert_fits,
    assert_need_the_same_fields,
    documents,
    validator,
)
from tests.streams.messages.test_plan import plans
from tests.streams.messages.test_plan_counters import plan_with

BILL = PeriodSummary(
    period=3,
    closed=False,
    settling=True,
    models=("a", "b"),
    budgets=[5, 6],
    reserved=[3, 0],
    settled=[2, 0],
    charged=[3, 0],
    served=[1, 0],
    settlements=[1, 0],
    lapsed=[0, 0],
    arrived=2,
    unserved=1,
    deferred=0,
    dead=0,
    failed=[0, 0],
    counters=[
        CounterTotal("team", "search", "usd", 3, {"a": [1, 3, 2]}, 9),
        CounterTotal("day", None, "queries", 1, {}),
    ],
)


@pytest.mark.parametrize("changed", [{}, {"budgets": None}])
def test_period_schema_agrees_with_the_decoder(changed: dict[str, Any]) -> None:
    value = orjson.dumps(orjson.loads(encode_period(BILL)) | changed)
    schema = validator("period")
    schema.validate(orjson.loads(value))
    assert_fits("period", value)
    assert_need_the_same_fields("period", orjson.loads(value), decode_period)
    assert not schema.is_valid(orjson.loads(value) | {"charged": [0.5, 1]})


@given(plans())
@settings(max_examples=30)
def test_plan_schema_accepts_every_plan(plan: Any) -> None:
    assert_fits("plan", encode_plan(plan))


@given(plans())
@settings(max_examples=3)
def test_plan_schema_needs_the_decoders_fields(plan: Any) -> None:
    assert_need_the_same_fields("plan", orjson.loads(encode_plan(plan)), decode_plan)


def test_plan_schema_has_every_field_of_a_plan() -> None:
    plan = replace(
        plan_with(),
        measured={"a": [3, 0.5, 1e-3]},
        paused={"a": Pause("failed", 7.5, None, 0.5, 9.0)},
        correction={"a": [[1.0, 2.0]]},
        topped_up={"total": 5},
        reserve_offsets={"a": [0.5]},
        solved_from=PriceOrigin(observed=3, mean_cost=(1.0, 2.0), solver="exact"),
        ends_at=9.5,
    )
    assert_fits("plan", encode_plan(plan))
    fields = orjson.loads(encode_plan(plan))
    assert set(fields) == set(message_schema("plan")["properties"])
    assert_need_the_same_fields("plan", fields, decode_plan)
    assert_need_the_same_fields("plan", fields, decode_plan, ["counters"])
    assert_need_the_same_fields("plan", fields, decode_plan, ["paused", "a"])


# ---- plans on their compacted topic ------------------------------------------------------------------------


def decode_messages(messages: list[tuple[bytes, bytes]]) -> Plan:
    assembler = PlanAssembler()
    *_, plan = [assembler.append(key, value) for key, value in messages]
    assert plan is not None, "the plan is incomplete"
    return plan


def test_plan_head_and_counter_schemas_need_the_fields_of_the_assembler() -> None:
    *counters, head = [(key, value) for key, value in plan_messages(plan_with(), None) if value is not None]
    assert len(counters) == 3
    assert_fits("plan-head", head[1])

    def decode_head(value: bytes) -> Plan:
        return decode_messages([*counters, (PLAN_KEY, value)])

    fields = orjson.loads(head[1])
    assert_need_the_same_fields("plan-head", fields, decode_head)
    for key, value in counters:
        assert_fits("plan-counter", value)
        others = [one for one in counters if one[0] != key]

        def decode_counter(value: bytes, key: bytes = key, others: Any = others) -> Plan:
            return decode_messages([*others, (key, value), head])

        assert_need_the_same_fields("plan-counter", orjson.loads(value), decode_counter)


@given(plans())
@settings(max_examples=10)
def test_plan_head_schema_accepts_a_plan_without_grouped_counters(plan: Any) -> None:
    ((key, value),) = plan_messages(plan, None)
    assert key == PLAN_KEY
    assert_fits("plan-head", value)


LANES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2**63 - 1)).map(list), max_size=2)


@given(
    documents(
        "plan-counter",
        key=st.just(["team", "ads"]),
        budgets=st.integers(0, 2**63 - 1),
        granted=LANES,
        target=LANES,
    )
)
@settings(max_examples=30, deadline=None)
def test_plan_counters_of_the_schema_are_decoded(fields: dict[str, Any]) -> None:
    messages = [(key, value) for key, value in plan_messages(plan_with(), None) if value is not None]

    def decode(value: bytes) -> Plan:
        return decode_messages([(b"plan/1", value), *[one for one in messages if one[0] != b"plan/1"]])

    assert_accepted("plan-counter", fields, decode)


# ---- bills on their compacted topic ------------------------------------------------------------------------


def decode_counter_total(value: bytes) -> PeriodSummary:
    assembler = PeriodAssembler()
    assert assembler.append(b"3/team=search", value) is None
    summary = assembler.append(b"3", encode_period(BILL))
    assert summary is not None
    assert CounterTotal.of(orjson.loads(value)) in summary.counters or orjson.loads(value)["period"] != 3
    return summary


def test_period_counter_schema_agrees_with_the_assembler() -> None:
    bill = replace(BILL, alerts={"team=search": ["50", "exhaustion"], "day": ["80"]})
    (_, value), (_, rest) = period_messages(bill, None)
    assert_fits("period-counter", value)
    assert_fits("period", rest)
    assert orjson.loads(rest)["alerts"] == {"day": ["80"]}
    fields = orjson.loads(value)
    assert set(fields) == set(message_schema("period-counter")["properties"])
    assert_need_the_same_fields("period-counter", fields, decode_counter_total)
    assert_accepted("period-counter", fields | {"invented_later": 1}, decode_counter_total)


@given(documents("period-counter"))
@settings(max_examples=50, deadline=None)
def test_period_counters_of_the_schema_are_decoded(fields: dict[str, Any]) -> None:
    assert_accepted("period-counter", fields, decode_counter_total)


@given(documents("period"))
@settings(max_examples=50, deadline=None)
def test_periods_of_the_schema_are_decoded(fields: dict[str, Any]) -> None:
    assert_accepted("period", fields, decode_period)
