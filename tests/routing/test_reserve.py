"""Bounds that a query's real cost cannot pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.money import MAX_USD, to_pico
from routing.reserve import TEMPLATE_TOKENS, bound_charges

PRICES = np.array([0.5, 15.0]), np.array([1.5, 75.0])


def test_prompt_and_answer_at_list_price():
    charges = bound_charges(np.array([1000.0, 100.0]), [None, 10], *PRICES, default_max_tokens=100)
    assert charges.tolist() == [
        [1000 * 500_000 + 100 * 1_500_000, 1000 * 15_000_000 + 100 * 75_000_000],
        [100 * 500_000 + 10 * 1_500_000, 100 * 15_000_000 + 10 * 75_000_000],
    ]


def test_no_queries_no_charges():
    assert bound_charges(np.zeros(0), [], *PRICES, default_max_tokens=1).shape == (0, 2)


@given(
    st.text(max_size=40),
    st.integers(1, 10_000),
    st.integers(0, 60),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_whatever_is_used_costs_no_more(prompt, most, template, prompt_share, answer_share):
    """At most a token a byte and the template's, and at most `max_tokens` of answer."""
    tokens = np.array([len(prompt.encode()) + TEMPLATE_TOKENS], dtype=np.float64)
    charge = bound_charges(tokens, [most], *PRICES, default_max_tokens=1)[0]
    used = prompt_share * len(prompt.encode()) + template, answer_share * most
    cost = (used[0] * PRICES[0] + used[1] * PRICES[1]) / 1e6
    assert (charge >= cost * 1e12 - 1e-3).all()


@pytest.mark.parametrize("most", [None, 7])
def test_free_llms_reserve_nothing(most):
    assert bound_charges(np.array([65.0]), [most], np.zeros(1), np.zeros(1), 5).tolist() == [[0]]


def test_a_query_that_could_cost_more_than_any_budget_reserves_that_much():
    """Ten million tokens of an LLM that has no list price, and so a prohibitive one."""
    charges = bound_charges(np.array([65.0]), [10_000_000], np.array([1.0, 9e6]), np.array([2.0, 9e6]), 1)
    assert charges[0, 0] < 10**14
    assert charges[0, 1] == to_pico(MAX_USD)
