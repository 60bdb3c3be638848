"""The `routing` objects of a batch, encoded by columns: the bytes of one object after the other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.messages.routing_columns import Column, encode_rows
from streams.messages.routing_info import RoutingInfo

COUNTS = st.integers(0, 2**53)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.sampled_from(["vendor/llm", "100%s", 'quo"te', "ü, b"])
ROWS = st.lists(
    st.builds(
        RoutingInfo,
        plan=st.just(3),
        period=st.just(1),
        partition=st.just(4),
        routed_at=st.just(1.5),
        offset=COUNTS,
        source=st.none() | st.tuples(COUNTS, COUNTS),
        model=NAMES,
        quality=NUMBERS,
        cost=NUMBERS,
        price=NUMBERS,
        max_tokens=st.none() | COUNTS,
        attempt=st.integers(1, 3),
        tried=st.none() | st.lists(NAMES, min_size=1).map(tuple),
        exhausted=st.none(),
        excluded=st.none(),
        probability=NUMBERS,
        reserve=st.just("p95%"),
    ),
    max_size=20,
)
VARYING = ("source", "model", "max_tokens", "attempt", "tried")
NUMERIC = ("offset", "quality", "cost", "price", "probability")


@given(ROWS)
def test_encode_rows_equals_encoding_one_object_after_the_other(rows: list[RoutingInfo]):
    columns: dict[str, Column] = {name: [getattr(row, name) for row in rows] for name in VARYING}
    for name in NUMERIC:
        dtype = np.int64 if name == "offset" else np.float64
        columns[name] = np.array([getattr(row, name) for row in rows], dtype=dtype)
    common = RoutingInfo(plan=3, period=1, partition=4, routed_at=1.5, offset=0, reserve="p95%")

    assert encode_rows(common, columns) == [row.encode() for row in rows]


def test_encode_rows_strided_column_is_encoded_in_order():
    common = RoutingInfo(plan=3, period=1, partition=4, routed_at=None, offset=0)
    offsets = np.arange(6).reshape(2, 3)[:, 1]

    assert encode_rows(common, {"offset": offsets}) == [
        common._replace(offset=1).encode(),
        common._replace(offset=4).encode(),
    ]
