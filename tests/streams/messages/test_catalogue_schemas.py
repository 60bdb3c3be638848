"""Schemas of the catalogue's topic accept what the router publishes, and no document that decoders refuse."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.budgets.budget_schema import BUDGET_KEYS
from routing.budgets.model import MODEL_KEYS
from streams.messages.catalogue import CatalogueVersion
from streams.messages.json_schemas import message_schema
from streams.messages.pause import ManualPause
from streams.messages.top_up import TopUp
from tests.streams.messages.schema_strategies import (
    OTHER,
    assert_accepted,
    assert_agree,
    assert_fits,
    assert_need_the_same_fields,
    documents,
    refuses,
    validator,
    values_of,
)

CATALOGUE = message_schema("catalogue")["properties"]["catalogue"]["properties"]
MODEL = CATALOGUE["models"]["items"]
BUDGET = CATALOGUE["budgets"]["anyOf"][1]["items"]
EXAMPLES = settings(max_examples=100, deadline=None)

models = values_of(MODEL)
limits = {name: values_of(BUDGET["properties"][name]) for name in ("burst", "max_values", "models")}
plain_budgets = st.fixed_dictionaries(
    {"name": st.just("plain"), "limit_queries": st.integers(0, 10**15)},
    optional={name: limits[name] for name in ("max_values", "models")},
)
rates = st.fixed_dictionaries(
    {"name": st.just("rate"), "limit_tokens": st.floats(0, 1e15), "per": st.sampled_from(["hour", "day"])},
    optional={"burst": limits["burst"]},
)
groups = st.fixed_dictionaries(
    {
        "name": st.just("group"),
        "group_by": values_of({"type": "string", "pattern": r"^(metadata\.|header:)[a-z]+$"}),
        "default": st.floats(0, 1e6),
    },
    optional={
        "limits": st.dictionaries(st.text(max_size=9), st.floats(0, 1e6), max_size=3),
        "unit": st.sampled_from(["usd", "queries", "tokens"]),
        "required": st.booleans(),
    },
)
periods = values_of(CATALOGUE["period"]).map(
    lambda period: period if period is None or "time_zone" not in period else {**period, "time_zone": "UTC"}
)
catalogues = st.fixed_dictionaries(
    {"models": models.map(lambda model: [model]), "budget_usd": st.floats(0, 1e6)},
    optional={
        "budgets": st.tuples(plain_budgets, rates, groups).map(list),
        "period": periods,
        "allow": values_of(CATALOGUE["allow"]),
    },
).filter(
    # an LLM's budget has the LLM's name, and a split forbids it
    lambda catalogue: (
        catalogue["models"][0].get("budget_usd") is None
        or catalogue["models"][0]["name"] not in ("total", "plain", "rate", "group")
    )
)
GOOD: dict[str, Any] = {
    "version": 3,
    "catalogue": {
        "budget_usd": 5,
        "models": [{"name": "a"}],
        "budgets": [{"name": "team", "group_by": "metadata.team", "default": 1}],
        "period": {"every": "week", "start_day": 1, "start_hour": 6, "time_zone": "UTC"},
        "allow": [{"field": "header:region", "values": ["eu"], "models": ["a"]}],
    },
    "priced_by": {"a": [1.5, None]},
}


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return the good document with another value at a path."""
    fields = orjson.loads(orjson.dumps(GOOD))
    inner = fields
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return fields


@EXAMPLES
@given(documents("catalogue", catalogue=catalogues))
def test_catalogue_of_the_schema_is_decoded_and_encoded_again(fields: dict[str, Any]):
    assert_accepted("catalogue", fields, CatalogueVersion.decode)
    again = CatalogueVersion.decode(orjson.dumps(fields)).encode()
    assert_fits("catalogue", again)
    assert CatalogueVersion.decode(again).encode() == again


def test_fields_are_those_of_the_catalogue():
    assert (*MODEL["properties"],) == MODEL_KEYS
    assert {*BUDGET["properties"]} == {*BUDGET_KEYS}


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("catalogue", "models", 0),
        ("catalogue", "allow", 0),
    ],
)
def test_catalogue_schema_needs_the_decoders_fields(path: tuple[Any, ...]):
    assert_need_the_same_fields("catalogue", GOOD, CatalogueVersion.decode, path)


@pytest.mark.parametrize("missing", ["name", "models"])
def test_catalogue_without_names_is_refused_by_both(missing: str):
    fields = orjson.loads(orjson.dumps(GOOD))
    del (fields["catalogue"] if missing == "models" else fields["catalogue"]["budgets"][0])[missing]
    assert not validator("catalogue").is_valid(fields)
    assert refuses(CatalogueVersion.decode, fields)


@EXAMPLES
@given(st.sampled_from([*MODEL["properties"], "unknown"]), OTHER)
def test_catalogue_schema_agrees_on_each_field_of_an_llm(name: str, value: Any):
    if name == "budget_usd" and value is not None and value == 0:
        value = 1  # of an LLM with the name of a budget
    assert_agree("catalogue", changed(("catalogue", "models", 0, name), value), CatalogueVersion.decode)


@EXAMPLES
@given(st.sampled_from(["default", "limits", "per", "required", "max_values", "unit", "unknown"]), OTHER)
def test_catalogue_schema_accepts_no_field_of_a_budget_that_the_decoder_refuses(name: str, value: Any):
    if name == "default" and value is None:
        return  # a rule over several fields: the budget has no limit then
    fields = changed(("catalogue", "budgets", 0, name), value)
    if validator("catalogue").is_valid(fields):
        assert not refuses(CatalogueVersion.decode, fields), fields


@EXAMPLES
@given(st.sampled_from(["every", "start_day", "start_hour", "time_zone", "queries"]), OTHER)
def test_catalogue_schema_accepts_no_period_that_the_decoder_refuses(name: str, value: Any):
    fields = changed(("catalogue", "period", name), value)
    if validator("catalogue").is_valid(fields) and name != "time_zone":
        assert not refuses(CatalogueVersion.decode, fields), fields


@EXAMPLES
@given(st.sampled_from(["version", "priced_by"]), OTHER)
def test_catalogue_schema_agrees_on_the_fields_of_a_version(name: str, value: Any):
    assert_agree("catalogue", changed((name,), value), CatalogueVersion.decode)


numbers = st.floats(-1e12, 1e12)


@given(st.builds(ManualPause, numbers, st.none() | numbers), documents("pause"))
def test_pause_schema_and_decoder_accept_the_same(pause: ManualPause, fields: dict[str, Any]):
    assert_fits("pause", pause.encode())
    assert_need_the_same_fields("pause", orjson.loads(pause.encode()), ManualPause.decode)
    assert_accepted("pause", fields, ManualPause.decode)


@EXAMPLES
@given(st.sampled_from(["since", "until"]), OTHER)
def test_pause_schema_agrees_with_the_decoder_on_each_field(name: str, value: Any):
    assert_agree("pause", {"since": 1.5, "until": None, name: value}, ManualPause.decode)


counts = st.integers(0, 2**63 - 1)


@given(st.builds(TopUp, counts, counts), documents("top-up"))
def test_top_up_schema_and_decoder_accept_the_same(top_up: TopUp, fields: dict[str, Any]):
    assert_fits("top-up", top_up.encode())
    assert_need_the_same_fields("top-up", orjson.loads(top_up.encode()), TopUp.decode)
    assert_accepted("top-up", fields, TopUp.decode)


@EXAMPLES
@given(st.sampled_from(["period", "amount"]), OTHER)
def test_top_up_schema_agrees_with_the_decoder_on_each_field(name: str, value: Any):
    assert_agree("top-up", {"period": 3, "amount": 7, name: value}, TopUp.decode)
