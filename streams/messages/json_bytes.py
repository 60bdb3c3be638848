"""Removal of members from a JSON object that keeps the bytes of the others."""

from __future__ import annotations

import re
from collections.abc import Collection

import orjson

_MARK = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},]', re.DOTALL)
"""A text, or a character that begins, continues or ends an object or a list."""

_QUOTE = ord('"')


def remove_members(value: bytes, names: Collection[str]) -> bytes:
    """Return a JSON object without some of its members; the bytes of the others stay.

    Parameters
    ----------
    value : bytes
        A valid JSON object of any depth.
    names : collection of str
        Names of members of the object itself, in any spelling. Duplicates are removed, too.

    Examples
    --------
    >>> remove_members(b'{"a": 1, "\\\\u0062": [2], "n": 123456789012345678901.50}', ["b"])
    b'{"a": 1, "n": 123456789012345678901.50}'
    """
    members: list[bytes] = []
    depth, begin, name = 0, 0, None
    for mark in _MARK.finditer(value):
        kind = value[mark.start()]
        if depth == 1:
            if kind in b",}":
                if name is not None and name not in names:
                    members.append(value[begin : mark.start()])
                begin, name = mark.end(), None
            elif kind == _QUOTE and name is None:
                name = orjson.loads(mark[0])  # it may be spelled with escapes
        if kind in b"{[":
            depth += 1
            if depth == 1:
                begin = mark.end()
        elif kind in b"}]":
            depth -= 1
    return b"{" + b",".join(members) + b"}"
