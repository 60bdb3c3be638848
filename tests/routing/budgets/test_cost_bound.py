"""Upper bounds of a query's cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.budgets.cost_bound import TEMPLATE_TOKENS, bound_charges
from routing.budgets.money import MAX_USD, to_pico

PRICES = np.array([0.5, 15.0]), np.array([1.5, 75.0])


def test_bound_charges_multiply_tokens_by_list_prices():
    charges = bound_charges(np.array([1000.0, 100.0]), [None, 10], *PRICES, default_max_tokens=100)
    assert charges.tolist() == [
        [1000 * 500_000 + 100 * 1_500_000, 1000 * 15_000_000 + 100 * 75_000_000],
        [100 * 500_000 + 10 * 1_500_000, 100 * 15_000_000 + 10 * 75_000_000],
    ]


def test_bound_charges_without_queries_are_empty():
    assert bound_charges(np.zeros(0), [], *PRICES, default_max_tokens=1).shape == (0, 2)


@given(
    st.text(max_size=40),
    st.integers(1, 10_000),
    st.integers(0, 60),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_bound_charges_are_never_below_the_actual_cost(
    prompt, max_tokens, template, prompt_share, answer_share
):
    """The actual tokens are at most one per byte plus the template's, and at most `max_tokens` of answer."""
    tokens = np.array([len(prompt.encode()) + TEMPLATE_TOKENS], dtype=np.float64)
    charge = bound_charges(tokens, [max_tokens], *PRICES, default_max_tokens=1)[0]
    used = prompt_share * len(prompt.encode()) + template, answer_share * max_tokens
    cost = (used[0] * PRICES[0] + used[1] * PRICES[1]) / 1e6
    assert (charge >= cost * 1e12 - 1e-3).all()


@pytest.mark.parametrize("max_tokens", [None, 7])
def test_bound_charges_of_free_llms_are_zero(max_tokens):
    assert bound_charges(np.array([65.0]), [max_tokens], np.zeros(1), np.zeros(1), 5).tolist() == [[0]]


def test_bound_charges_stop_at_the_largest_budget():
    """Charge ten million tokens of an LLM with a prohibitive price."""
    charges = bound_charges(np.array([65.0]), [10_000_000], np.array([1.0, 9e6]), np.array([2.0, 9e6]), 1)
    assert charges[0, 0] < 10**14
    assert charges[0, 1] == to_pico(MAX_USD)
