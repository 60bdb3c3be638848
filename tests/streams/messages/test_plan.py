"""The plan on its topic: written and read back, to the last digit of every price."""

from dataclasses import fields, replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.policy.plan import Plan
from routing.policy.price_origin import PriceOrigin
from streams.messages.plan import decode_plan, encode_plan, same_but_for_rights

amounts = st.integers(0, 2**63 - 1)


@st.composite
def plans(draw) -> Plan:
    models, lanes = draw(st.integers(1, 4)), draw(st.integers(1, 4))

    def vector(of, count=models) -> list:
        return draw(st.lists(of, min_size=count, max_size=count))

    def matrix() -> np.ndarray:
        return np.array([vector(amounts) for _ in range(lanes)], dtype=np.int64)

    return Plan(
        period=draw(amounts),
        version=draw(st.integers(0, 99)),
        revision=draw(amounts),
        models=tuple(f"llm-{i}" for i in range(models)),
        active=np.array(vector(st.booleans())),
        budgets=np.array(vector(amounts), dtype=np.int64),
        prices=np.array(vector(st.floats(0, 1e12, allow_subnormal=False))),
        learned=draw(st.booleans()),
        granted=matrix(),
        target=matrix(),
        overflow=draw(st.booleans()),
        horizon=draw(amounts),
        until=draw(st.none() | amounts),
        solved_from=PriceOrigin(observed=3, samples_from=draw(st.none() | amounts)),
        created_at=draw(st.floats(0, 4e9)),
        began_at=1.5,
        catalogue=draw(st.integers(0, 9)),
        measured={"llm-0": [3, 0.5, 1e-3]},
        cost_factor={"llm-0": draw(st.floats(0.1, 10))},
        priced_by={"llm-0": [draw(st.floats(0.1, 10)), None]},
    )


@given(plans())
@settings(max_examples=80)
def test_decode_plan_encoded_plan_is_equal(plan):
    read = decode_plan(encode_plan(plan))
    for field in fields(Plan):
        one, other = getattr(plan, field.name), getattr(read, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert one.shape == other.shape, field.name
            assert one.tolist() == other.tolist(), field.name
        else:
            assert one == other, field.name
    assert same_but_for_rights(plan, read)


def a_plan() -> Plan:
    rights = np.ones((2, 1), dtype=np.int64)
    return Plan(
        period=1,
        version=1,
        revision=1,
        models=("a",),
        active=np.ones(1, dtype=bool),
        budgets=np.array([9]),
        prices=np.array([0.5]),
        learned=True,
        granted=rights,
        target=rights,
        overflow=False,
        horizon=10,
    )


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"granted": np.full((2, 1), 5)}, True),
        ({"target": np.full((2, 1), 5)}, True),
        ({"created_at": 7.0}, True),
        ({"prices": np.array([0.6])}, False),
        ({"active": np.zeros(1, dtype=bool)}, False),
        ({"budgets": np.array([8])}, False),
        ({"period": 2}, False),
        ({"learned": False}, False),
    ],
)
def test_same_but_for_rights_compares_all_fields_but_grants(change, same):
    assert same_but_for_rights(a_plan(), a_plan().changed(**change)) is same


def test_decode_plan_of_another_version_is_accepted():
    plain = orjson.loads(encode_plan(replace(a_plan(), revision=7)))
    del plain["measured"]
    read = decode_plan(orjson.dumps({**plain, "invented_later": 1}))
    assert (read.revision, read.measured) == (7, {})
