"""Argument types for numbers on command lines, with errors that state the valid range."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def positive_int(text: str) -> int:
    """Parse a whole number, 1 or more.

    Raises
    ------
    ArgumentTypeError
        The text is anything else. All functions here raise it.
    """
    return _parse_integer(text, 1)


def non_negative_int(text: str) -> int:
    """Parse a whole number, 0 or more."""
    return _parse_integer(text, 0)


def port(text: str) -> int:
    """Parse a TCP port; 0 means any free port."""
    number = _parse_integer(text, 0)
    if number > 65535:
        raise ArgumentTypeError(f"{text!r} must be a port, 0 to 65535")
    return number


def positive_float(text: str) -> float:
    """Parse a finite number above 0."""
    number = _number(text)
    if number is None or number <= 0:
        raise ArgumentTypeError(f"{text!r} must be a number above 0")
    return number


def non_negative_float(text: str) -> float:
    """Parse a finite number, 0 or more."""
    number = _number(text)
    if number is None or number < 0:
        raise ArgumentTypeError(f"{text!r} must be a number, 0 or more")
    return number


def duration(text: str) -> float:
    """Parse a time span with its unit (s, m, h or d) and return seconds.

    Examples
    --------
    >>> duration("90m"), duration("1.5h"), duration("30")
    (5400.0, 5400.0, 30.0)
    """
    unit = _SECONDS.get(text[-1:])
    number = _number(text if unit is None else text[:-1])
    if number is None or number <= 0:
        raise ArgumentTypeError(f"{text!r} must be a time above 0, such as 30s, 10m, 24h or 2d")
    return number * (unit or 1.0)


def rate_per_second(text: str) -> float | None:
    """Parse a rate per second; 0 means as fast as possible and returns None.

    Examples
    --------
    >>> rate_per_second("2.5"), rate_per_second("0")
    (2.5, None)
    """
    return non_negative_float(text) or None


def _parse_integer(text: str, minimum: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = minimum - 1
    if number < minimum:
        raise ArgumentTypeError(f"{text!r} must be a whole number, {minimum} or more")
    return number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
