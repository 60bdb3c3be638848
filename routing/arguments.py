"""Numbers on command lines: types for argparse that say what a number must be."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError


def count(text: str) -> int:
    """A whole number, 1 or more.

    Raises
    ------
    ArgumentTypeError
        As all of these: it is something else.
    """
    return _whole(text, 1)


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    return _whole(text, 0)


def positive(text: str) -> float:
    """A number above 0, and not infinite."""
    number = _number(text)
    if number is None or number <= 0:
        raise ArgumentTypeError(f"{text!r} must be a number above 0")
    return number


def not_negative(text: str) -> float:
    """A number, 0 or more, and not infinite."""
    number = _number(text)
    if number is None or number < 0:
        raise ArgumentTypeError(f"{text!r} must be a number, 0 or more")
    return number


def rate(text: str) -> float | None:
    """So many a second; 0 is as fast as it goes, which is None.

    Examples
    --------
    >>> rate("2.5"), rate("0")
    (2.5, None)
    """
    return not_negative(text) or None


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise ArgumentTypeError(f"{text!r} must be a whole number, {least} or more")
    return number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
