"""JSON files of results, which documents quote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson


def save(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write results to a file and create its folder; do nothing without a file."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    form = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    path.write_bytes(orjson.dumps(result, option=form))
