"""Picodollars: rounded up, exact back and forth, refused where they would not fit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routing.money import MAX_USD, PICO, read_pico, to_pico, to_usd


@given(st.floats(0, MAX_USD))
@example(2188.0)  # the last bit of 2188e12 is a quarter: what is whole must stay what it is
@example(MAX_USD)
def test_a_charge_is_never_below_what_it_stands_for(usd):
    exact = Fraction(usd) * PICO
    pico = int(to_pico(usd))
    # but for the last bits of the binary number, which stands for a decimal one
    assert pico >= exact - max(Fraction(1, 10**6), exact * Fraction(4, 10**16))
    assert pico < exact + 1 + exact * Fraction(4, 10**16)


@given(st.integers(0, 10**12), st.integers(0, 12))
def test_decimal_amounts_are_exact(digits, places):
    if digits * 10 ** (12 - places) <= 10**15:
        assert int(to_pico(digits / 10**places)) == digits * 10 ** (12 - places)


@given(st.integers(0, 10**15))
def test_what_a_message_says_is_read_back(pico):
    assert int(read_pico(float(to_usd(pico)))) == pico
    assert int(to_pico(to_usd(pico))) == pico


def test_shapes_stay():
    assert to_pico([[1.0, 0.0], [2e-12, 1.1e-12]]).tolist() == [[10**12, 0], [2, 2]]
    assert to_usd(np.array([[1, 2]])).shape == (1, 2)


@pytest.mark.parametrize("usd", [-1e-12, np.nan, np.inf, MAX_USD * 1.001])
def test_what_is_no_amount_is_refused(usd):
    with pytest.raises(ValueError, match="usd"):
        to_pico([0.0, usd])


def test_the_largest_budget_fits():
    assert 0 < int(to_pico(MAX_USD)) < 2**63
