"""Where figures are kept: JSON that a page of results can quote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson


def save(path: Path | None, found: Mapping[str, Any]) -> None:
    """Write figures to a file and make its folder; nothing where no file was asked for."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    form = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    path.write_bytes(orjson.dumps(found, option=form))
