"""Numbers on command lines: what is taken, and what is said of the rest."""

import argparse
from collections.abc import Callable

import pytest

from routing.arguments import count, not_negative, positive, rate, whole


@pytest.mark.parametrize("kind", [count, whole, positive, not_negative, rate])
@pytest.mark.parametrize("text", ["-1", "-0.5", "nan", "inf", "-inf", "many", "", "1e999"])
def test_what_is_no_amount_is_refused_with_what_it_must_be(kind: Callable[[str], object], text: str):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text!r} must be a (whole )?number"):
        kind(text)


def test_where_zero_is_taken_and_what_it_means():
    assert (whole("0"), not_negative("0"), rate("0"), rate("0.0")) == (0, 0.0, None, None)
    for kind in (count, positive):
        with pytest.raises(argparse.ArgumentTypeError, match="'0' must be"):
            kind("0")
    assert (count("7"), positive("1e-9"), rate("3")) == (7, 1e-9, 3.0)
