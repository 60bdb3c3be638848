"""A program of the project that runs for the length of a block."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
END_SECONDS = 60.0


@contextmanager
def running(
    module: Sequence[object], environment: Mapping[str, str], log: Path, within: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m MODULE ARGUMENTS` with its output in a file; end it by SIGTERM.

    Parameters
    ----------
    module : sequence
        The module and its arguments.
    environment : mapping
    log : Path
    within : sequence of str
        Command that runs the program, such as `unshare -r -n`.

    Raises
    ------
    TimeoutExpired
        It did not end within `END_SECONDS`, and was killed.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*within, sys.executable, "-m", *map(str, module)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
