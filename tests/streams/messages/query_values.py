"""Values of queries for tests, and strategies for JSON."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from streams.messages.query import decode_query, encode_embedding
from streams.messages.rejection import RejectedMessage
from streams.messages.routing_info import RoutingInfo

DIMENSION = 4
ROUTING = RoutingInfo(plan=None, period=None, partition=0, routed_at=None, offset=3)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
slow_to_draw = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Hypothesis takes seconds for its first text, because it builds tables of characters."""


def encoded(**fields: object) -> bytes:
    return json.dumps({"id": "q1", "prompt": "Why?"} | fields).encode()


def rejection_of(value: bytes | None, dimension: int | None = DIMENSION) -> RejectedMessage:
    with pytest.raises(RejectedMessage) as caught:
        decode_query(value, dimension)
    return caught.value


def carried(numbers: list[float]) -> str:
    return encode_embedding(np.array(numbers))
