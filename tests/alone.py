"""Things that one process of a parallel test run does while the others wait."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUILD = Path(__file__).resolve().parents[1] / "build"


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Nobody else of this checkout does it meanwhile; who comes after finds it done."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
