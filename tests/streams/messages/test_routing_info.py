"""The object `routing` of routed and unserved messages: its bytes, and which ones are valid."""

import numpy as np
import orjson
import pytest

from streams.messages.routing_info import RoutingInfo, RoutingInfoError

WHOLE = RoutingInfo(
    plan=3,
    period=2,
    partition=4,
    routed_at=1.5,
    offset=9,
    source=(1, 70),
    model="vendor/llm",
    quality=0.5,
    cost=0.001,
    price=12.5,
    max_tokens=300,
    attempt=2,
    tried=("other",),
    exhausted=["total"],
    excluded={"a": "models"},
)
MINIMAL = RoutingInfo(plan=None, period=None, partition=0, routed_at=None, offset=0)


def message_with(**fields: object) -> dict[str, object]:
    return {"id": "a", "routing": {"partition": 0, "offset": 7, **fields}}


def test_encode_whole_object_keeps_the_order_on_the_wire():
    assert WHOLE.encode() == (
        b'{"plan":3,"period":2,"partition":4,"routed_at":1.5,"offset":9,"source":[1,70],"model":"vendor/llm",'
        b'"quality":0.5,"cost":0.001,"price":12.5,"max_tokens":300,"attempt":2,"tried":["other"],'
        b'"exhausted":["total"],"excluded":{"a":"models"}}'
    )


def test_encode_numpy_number_writes_a_plain_number():
    assert WHOLE._replace(quality=np.float64(0.25)).encode().count(b'"quality":0.25,') == 1


@pytest.mark.parametrize("routing", [WHOLE, MINIMAL])
def test_decode_encoded_object_returns_an_equal_one(routing: RoutingInfo):
    assert RoutingInfo.decode({"routing": orjson.loads(routing.encode())}) == routing


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        {},
        {"routing": None},
        {"routing": "gpt-4"},
        {"routing": {}},
        message_with(partition=None),
        message_with(partition="0"),
        message_with(partition=True),
        message_with(offset=-1),
        message_with(attempt=0),
        message_with(attempt=True),
        message_with(offset=1.0),
    ],
)
def test_decode_message_without_position_raises(message: object):
    with pytest.raises(RoutingInfoError, match="routing"):
        RoutingInfo.decode(message)
    assert RoutingInfo.find(message) is None


@pytest.mark.parametrize("bound", [0, -1, 1.0, "300", True])
def test_decode_invalid_bound_raises(bound: object):
    with pytest.raises(RoutingInfoError, match=r"routing\.max_tokens"):
        RoutingInfo.decode(message_with(max_tokens=bound))


@pytest.mark.parametrize(
    ("name", "value"),
    [("cost", "1"), ("price", None), ("plan", 1.5), ("model", 3), ("source", [1]), ("source", ["0", 1])],
)
def test_decode_optional_field_of_another_type_counts_as_missing(name: str, value: object):
    assert getattr(RoutingInfo.decode(message_with(**{name: value})), name) is None


def test_origin_of_a_deferred_query_is_its_place_in_queries():
    assert (WHOLE.origin, MINIMAL.origin) == ((1, 70), (0, 0))
