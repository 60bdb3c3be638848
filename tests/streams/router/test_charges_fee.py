"""Bounds of a query's cost include the fee of its request."""

import numpy as np

from routing.budgets.money import to_pico
from routing.estimators.base import Estimates
from streams.messages.query import decode_query
from streams.router.charges import charge_bounds
from tests.streams.router.memory_router import plan_with
from tests.streams.stepped_router import MODELS


def test_charge_bounds_adds_the_fee_of_a_request():
    plan = plan_with()
    queries = [decode_query(b'{"id": "a", "prompt": "b", "max_tokens": 5}', None)]
    estimates = Estimates(np.zeros((1, 3)), np.zeros((1, 3)))
    priced = dict.fromkeys(MODELS, (1.0, 2.0))
    fees = {MODELS[0]: 0.0, MODELS[1]: 0.001, MODELS[2]: 0.0}

    without = charge_bounds(lambda plan: priced, 50)(queries, estimates, plan).pico
    charges = charge_bounds(lambda plan: priced, 50, lambda name: fees[name])(queries, estimates, plan).pico

    assert (charges - without).tolist() == [[0, int(to_pico(0.001)), 0]]
