"""Random documents of a message's schema, and checks that schema and decoder agree."""

import base64
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import orjson
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from routing.budgets.schema import CatalogueError
from streams.messages.json_schemas import message_schema
from streams.messages.rejection import RejectedMessage
from tests.streams.messages.query_values import JSON_VALUES

INT64 = 2**63
UNICODE = st.characters(codec="utf-8")
REFUSALS = (RejectedMessage, CatalogueError, KeyError, TypeError, ValueError)
"""Errors of decoders. Those that trust the router raise no error of their own."""

Decoder = Callable[[bytes], object]
Strategy = st.SearchStrategy[Any]

# Whole numbers with a fraction, such as 5.0, are integers in JSON Schema and none for the decoders.
OTHER = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([0.5, -0.5, 1e3 + 0.5, 1001, 2**63 - 1, 2**63]),
    st.sampled_from(["", "a", " ", "=", "usd", "metadata.team", "week", "AAAA", "x" * 300]),
    st.sampled_from([[], {}, [1], ["a"], [None, None], {"a": 1}, {"a": [1.5, None]}]),
)
"""Values of all types, most of which are invalid for a field."""


@lru_cache
def validator(name: str) -> Draft202012Validator:
    """Return the validator of a message's schema."""
    schema = message_schema(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def refuses(decode: Decoder, fields: Any) -> bool:
    """Return whether a decoder raises an error for a document."""
    try:
        decode(orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY))
    except REFUSALS:
        return True
    return False


def values_of(schema: dict[str, Any]) -> Strategy:
    """Return the strategy of a schema's documents; it knows the keywords that the messages' schemas use."""
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of([values_of(one) for one in alternatives])
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return st.one_of([values_of({**schema, "type": kind}) for kind in kinds])
    return JSON_VALUES if kinds is None else _BY_TYPE[kinds](schema)


def documents(name: str, **fixed: Strategy) -> Strategy:
    """Return the strategy of a message's documents; `fixed` fields have strategies of their own."""
    return _object(message_schema(name), fixed)


def _object(schema: dict[str, Any], fixed: dict[str, Strategy] | None = None) -> Strategy:
    fixed = fixed or {}
    properties = {name: values_of(one) for name, one in schema.get("properties", {}).items()} | fixed
    if not properties:
        names = values_of({"type": "string", **schema.get("propertyNames", {})})
        return st.dictionaries(names, values_of(schema.get("additionalProperties", {})), max_size=3)
    needed = {*schema.get("required", ()), *fixed}
    return st.fixed_dictionaries(
        {name: properties[name] for name in properties if name in needed},
        optional={name: one for name, one in properties.items() if name not in needed},
    )


def _array(schema: dict[str, Any]) -> Strategy:
    if "prefixItems" in schema:
        return st.tuples(*map(values_of, schema["prefixItems"])).map(list)
    return st.lists(values_of(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=3)


def _text(schema: dict[str, Any]) -> Strategy:
    if schema.get("contentEncoding") == "base64":
        return st.binary(max_size=24).map(lambda raw: base64.b64encode(raw).decode())
    if pattern := schema.get("pattern"):
        return st.from_regex(pattern, fullmatch=True, alphabet=UNICODE)
    return st.text(max_size=min(20, schema.get("maxLength", 20)), min_size=schema.get("minLength", 0))


def _whole(schema: dict[str, Any]) -> Strategy:
    return st.integers(schema.get("minimum", -INT64), schema.get("maximum", INT64 - 1))


def _number(schema: dict[str, Any]) -> Strategy:
    low, high = schema.get("minimum", -1e15), schema.get("maximum", 1e15)
    return st.floats(low, high, allow_subnormal=False) | st.integers(int(low), int(high))


_BY_TYPE: dict[str, Callable[[dict[str, Any]], Strategy]] = {
    "object": _object,
    "array": _array,
    "string": _text,
    "integer": _whole,
    "number": _number,
    "boolean": lambda schema: st.booleans(),
    "null": lambda schema: st.none(),
}


def assert_accepted(name: str, fields: Any, decode: Decoder) -> None:
    """Assert that schema and decoder accept a document."""
    validator(name).validate(fields)
    decode(orjson.dumps(fields))


def assert_fits(name: str, value: bytes | None) -> None:
    """Assert that an encoded message has no field beyond its schema, and that the schema accepts it."""
    fields = orjson.loads(value or b"")
    schema = validator(name)
    schema.validate(fields)
    assert set(fields) <= set(schema.schema["properties"])


def assert_need_the_same_fields(
    name: str, fields: dict[str, Any], decode: Decoder, path: Iterable[str | int] = ()
) -> None:
    """Assert that schema and decoder agree on a document without each field of the object at `path`."""
    validator(name).validate(fields)
    whole = orjson.dumps(fields)
    for left_out in _inner(fields, path):
        rest = orjson.loads(whole)
        del _inner(rest, path)[left_out]
        assert validator(name).is_valid(rest) != refuses(decode, rest), left_out


def assert_agree(name: str, fields: dict[str, Any], decode: Decoder) -> None:
    """Assert that schema and decoder both accept, or both refuse."""
    errors = [error.message for error in validator(name).iter_errors(fields)]
    assert (not errors) != refuses(decode, fields), (fields, errors)


def _inner(fields: Any, path: Iterable[str | int]) -> dict[str, Any]:
    for step in path:
        fields = fields[step]
    assert isinstance(fields, dict)
    return fields
