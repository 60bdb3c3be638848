"""The `routing` objects of a batch as columns: their bytes cost a fraction of one object after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streams.messages.fields import ORJSON_NUMPY
from streams.messages.routing_info import RoutingInfo

Column = NDArray[Any] | Sequence[Any]
"""One field of n objects: numbers as an array, or hashable values, of which None leaves the field out."""


def encode_rows(common: RoutingInfo, columns: Mapping[str, Column]) -> list[bytes]:
    """Return the bytes of n `routing` objects, each equal to those of `RoutingInfo.encode`.

    Parameters
    ----------
    common : RoutingInfo
        Fields that all objects share. Its first field that is not None must not be a column.
    columns : mapping of str to ndarray or sequence, length n
        At least one. They replace the fields of `common`.

    Examples
    --------
    >>> common = RoutingInfo(plan=3, period=1, partition=0, routed_at=None, offset=0)
    >>> for row in encode_rows(common, {"offset": np.array([7, 8]), "max_tokens": [None, 50]}):
    ...     print(row.decode())
    {"plan":3,"period":1,"partition":0,"offset":7,"attempt":1}
    {"plan":3,"period":1,"partition":0,"offset":8,"max_tokens":50,"attempt":1}
    """
    form, parts = [], []
    for name, shared in zip(RoutingInfo._fields, common, strict=True):
        label = b',"%b":' % name.encode()
        column = columns.get(name)
        if column is None:
            if shared is not None:
                form.append((label + orjson.dumps(shared, option=ORJSON_NUMPY)).replace(b"%", b"%%"))
        elif isinstance(column, np.ndarray):
            form.append(label + b"%b")
            parts.append(_numbers(column))
        else:
            form.append(b"%b")
            parts.append(_members(label, column))
    template = b"{" + b"".join(form).removeprefix(b",") + b"}"
    return [template % row for row in zip(*parts, strict=True)]


def _numbers(column: NDArray[Any]) -> list[bytes]:
    """Return the text of each number; no number has a comma in it."""
    text = orjson.dumps(np.ascontiguousarray(column), option=ORJSON_NUMPY)[1:-1]
    return text.split(b",") if text else []


def _members(label: bytes, column: Sequence[Any]) -> list[bytes]:
    """Return the member that each value makes, encoded once per different value."""
    members = {value: b"" if value is None else label + orjson.dumps(value) for value in set(column)}
    return [members[value] for value in column]
