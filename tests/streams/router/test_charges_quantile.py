"""Charges at a quantile of the cost: corrected by the plan, and at most the bound of the query."""

import numpy as np
import pytest

from routing.budgets.cost_quantile import CostQuantile
from routing.budgets.money import to_pico
from routing.estimators.base import Estimates
from streams.messages.query import decode_query
from streams.router.charges import charge_bounds, charge_quantiles
from tests.streams.router.memory_router import plan_with
from tests.streams.stepped_router import MODELS

PLAN = plan_with(reserve_offsets={MODELS[0]: [0.95, float(np.log(2)), 9, 1], MODELS[1]: [0.99, 1.0, 9, 1]})
QUANTILE = CostQuantile(0.95, dict(zip(MODELS, (1.5, 2.0, 3.0), strict=True)))
PRICED = dict.fromkeys(MODELS, (1.0, 2.0))


def charges_of(query: bytes, cost: float = 1e-3):
    estimates = Estimates(np.full((1, 3), 0.5), np.full((1, 3), cost))
    return charge_quantiles(QUANTILE, lambda plan: PRICED)([decode_query(query, None)], estimates, PLAN)


def test_charge_quantiles_follows_the_history_and_the_plan():
    charges = charges_of(b'{"id": "a", "prompt": "b"}')

    # the offset of the second LLM is of another quantile
    assert charges.pico[0] == pytest.approx(to_pico(np.array([3e-3, 2e-3, 3e-3])), abs=2)
    assert charges.answer_tokens == [None]


def test_charge_quantiles_is_at_most_the_bound_of_the_query():
    query = b'{"id": "a", "prompt": "b", "max_tokens": 5}'
    bound = charge_bounds(lambda plan: PRICED, 1)([decode_query(query, None)], _some(), PLAN).pico

    assert charges_of(query).pico.tolist() == bound.tolist()
    assert (charges_of(query, 1e-9).pico < bound).all()


def test_charge_quantiles_has_no_bound_for_tools():
    query = b'{"id": "a", "prompt": "b", "max_tokens": 5, "parameters": {"tools": [{"type": "function"}]}}'

    assert charges_of(query).pico[0, 2] == pytest.approx(to_pico(3e-3), abs=2)


def _some() -> Estimates:
    return Estimates(np.zeros((1, 3)), np.zeros((1, 3)))
