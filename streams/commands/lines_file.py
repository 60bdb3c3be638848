"""A file of JSON lines that a command writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Write a record a line, and return their number.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    count = 0
    with path.open("wb") as file:
        for record in records:
            file.write(orjson.dumps(record) + b"\n")
            count += 1
    return count
