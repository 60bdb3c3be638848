"""Work that one process of a parallel test run does while the others wait."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUILD = Path(__file__).resolve().parents[1] / "build"


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Hold a lock on `what`, so that no other process of this checkout does it at the same time."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
