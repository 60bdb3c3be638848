"""Cutting members out of a JSON object without writing the others again."""

from __future__ import annotations

import re
from collections.abc import Collection

import orjson

_MARK = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},]', re.DOTALL)
"""A text, or what an object or a list begins, goes on and ends with."""

_QUOTE = ord('"')


def without_members(value: bytes, names: Collection[str]) -> bytes:
    """A JSON object without some of its members; the bytes of the others stay as they are.

    Parameters
    ----------
    value : bytes
        An object that a parser has accepted, however deep.
    names : collection of str
        Of members of the object itself, however they are spelled there and however often.

    Examples
    --------
    >>> without_members(b'{"a": 1, "\\u0062": [2], "n": 123456789012345678901.50}', ["b"])
    b'{"a": 1, "n": 123456789012345678901.50}'
    """
    kept: list[bytes] = []
    depth, begin, name = 0, 0, None
    for mark in _MARK.finditer(value):
        kind = value[mark.start()]
        if depth == 1:
            if kind in b",}":
                if name is not None and name not in names:
                    kept.append(value[begin : mark.start()])
                begin, name = mark.end(), None
            elif kind == _QUOTE and name is None:
                name = orjson.loads(mark[0])  # it may be spelled with escapes
        if kind in b"{[":
            depth += 1
            if depth == 1:
                begin = mark.end()
        elif kind in b"}]":
            depth -= 1
    return b"{" + b",".join(kept) + b"}"
