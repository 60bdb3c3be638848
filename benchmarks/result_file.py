"""JSON files of results, which documents quote."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks.machine import describe
from routing.history.faiss_library import CORE_TYPE


def report(program: str, path: Path | None, figures: Mapping[str, Any]) -> None:
    """Print a benchmark's figures with its command and the machine, and write them to a file."""
    kernels = [f"{CORE_TYPE}={os.environ[CORE_TYPE]}"] if CORE_TYPE in os.environ else []
    command = " ".join([*kernels, f"python -m benchmarks.{program}", *sys.argv[1:]])
    result = {"command": command, "machine": describe(), **figures}
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    save(path, result)


def save(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write results to a file and create its folder; do nothing without a file."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    form = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    path.write_bytes(orjson.dumps(result, option=form))
