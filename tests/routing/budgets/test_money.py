"""Picodollars: rounding up, exact conversion in both directions, and errors beyond the range."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routing.budgets.money import MAX_USD, PICO, read_pico, to_pico, to_usd


@given(st.floats(0, MAX_USD))
@example(2188.0)  # The last bit of 2188e12 is a quarter: whole numbers must stay unchanged.
@example(MAX_USD)
def test_to_pico_is_never_below_the_amount(usd):
    exact = Fraction(usd) * PICO
    pico = int(to_pico(usd))
    # Except for the last bits of the binary number, which represents a decimal one.
    assert pico >= exact - max(Fraction(1, 10**6), exact * Fraction(4, 10**16))
    assert pico < exact + 1 + exact * Fraction(4, 10**16)


@given(st.integers(0, 10**12), st.integers(0, 12))
def test_to_pico_decimal_amounts_are_exact(digits, places):
    if digits * 10 ** (12 - places) <= 10**15:
        assert int(to_pico(digits / 10**places)) == digits * 10 ** (12 - places)


@given(st.integers(0, 10**15))
def test_read_pico_inverts_to_usd(pico):
    assert int(read_pico(float(to_usd(pico)))) == pico
    assert int(to_pico(to_usd(pico))) == pico


def test_to_pico_and_to_usd_keep_shapes():
    assert to_pico([[1.0, 0.0], [2e-12, 1.1e-12]]).tolist() == [[10**12, 0], [2, 2]]
    assert to_usd(np.array([[1, 2]])).shape == (1, 2)


@pytest.mark.parametrize("usd", [-1e-12, np.nan, np.inf, MAX_USD * 1.001])
def test_to_pico_invalid_amount_raises(usd):
    with pytest.raises(ValueError, match="usd"):
        to_pico([0.0, usd])


def test_to_pico_largest_budget_fits():
    assert 0 < int(to_pico(MAX_USD)) < 2**63
