"""Numbers on command lines: valid values, and errors for the others."""

import argparse
from collections.abc import Callable

import pytest

from routing.arguments import (
    duration,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
    rate_per_second,
)


@pytest.mark.parametrize(
    "kind", [positive_int, non_negative_int, positive_float, non_negative_float, rate_per_second]
)
@pytest.mark.parametrize("text", ["-1", "-0.5", "nan", "inf", "-inf", "many", "", "1e999"])
def test_numbers_invalid_text_raises_with_the_valid_range(kind: Callable[[str], object], text: str):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text!r} must be a (whole )?number"):
        kind(text)


def test_numbers_zero_is_valid_where_it_has_a_meaning():
    assert (non_negative_int("0"), non_negative_float("0"), rate_per_second("0"), rate_per_second("0.0")) == (
        0,
        0.0,
        None,
        None,
    )
    for kind in (positive_int, positive_float):
        with pytest.raises(argparse.ArgumentTypeError, match="'0' must be"):
            kind("0")
    assert (positive_int("7"), positive_float("1e-9"), rate_per_second("3")) == (7, 1e-9, 3.0)


@pytest.mark.parametrize("text", ["", "m", "-1s", "0", "nan", "3x", "1 day"])
def test_duration_invalid_text_raises_with_examples(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match="such as 30s, 10m, 24h or 2d"):
        duration(text)
