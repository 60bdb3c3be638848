"""JSON whose numbers are written as they were read, whatever their number of digits."""

from __future__ import annotations

import json
from typing import Any

import orjson


class ExactInteger(int):
    """An integer beyond 64 bits, or with another spelling than Python's.

    Parameters
    ----------
    text : str
        The number as it was read.
    """

    text: str

    def __new__(cls, text: str) -> ExactInteger:
        """Read the number and keep its text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


class ExactFloat(float):
    """A number whose digits a float does not keep, such as `1.50` or one with twenty decimals.

    Parameters
    ----------
    text : str
        The number as it was read.
    """

    text: str

    def __new__(cls, text: str) -> ExactFloat:
        """Read the number and keep its text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def decode(text: bytes | str) -> Any:
    """Decode JSON; numbers that would change when they are written again remember their text.

    Parameters
    ----------
    text : bytes or str
        One JSON value, in UTF-8.

    Raises
    ------
    orjson.JSONDecodeError
        The text is not JSON, or a number in it is beyond a float's range.

    Examples
    --------
    >>> encode(decode(b'{"seed":123456789012345678901234567890,"top_p":0.10}'))
    b'{"seed":123456789012345678901234567890,"top_p":0.10}'
    """
    plain = orjson.loads(text)  # strict: no NaN, no half surrogates, UTF-8 only
    if isinstance(text, bytes):
        text = text.decode()
    try:
        return json.loads(text, parse_int=_integer, parse_float=_float)
    except RecursionError:
        # deeper than `encode` can write
        return plain


def encode(value: Any, option: int = 0) -> bytes:
    """Encode a value that may have numbers from `decode`.

    Parameters
    ----------
    value : object
    option : int
        Options of orjson.

    Raises
    ------
    orjson.JSONEncodeError
        The value is nested too deeply, or is not JSON.
    """
    return orjson.dumps(value, default=_digits, option=option | orjson.OPT_PASSTHROUGH_SUBCLASS)


def _integer(text: str) -> int:
    number = int(text)
    return number if -(2**63) <= number < 2**64 and str(number) == text else ExactInteger(text)


def _float(text: str) -> float:
    number = float(text)
    return number if orjson.dumps(number).decode() == text else ExactFloat(text)


def _digits(value: object) -> orjson.Fragment:
    if isinstance(value, ExactInteger | ExactFloat):
        return orjson.Fragment(value.text)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")
