"""Router workers as processes that tests may kill, freeze and stop.

Forked from a server that has imported everything once: a worker is there in a fraction of a second, not after
seconds of imports, and is from then on the very program that `python -m streams worker` runs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]

Fault = Callable[[], None]
"""Called in the worker before it starts, to change what it does; must be picklable."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run_worker(variables: Mapping[str, str], log: str, faults: tuple[Fault, ...]) -> None:
    """What the process does."""
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    for name in [name for name in os.environ if name.startswith(("PORT_", "KAFKA_"))]:
        del os.environ[name]
    os.environ.update(variables)
    for fault in faults:
        fault()
    from streams.__main__ import main

    sys.exit(main(["worker"]))


def _server() -> Any:
    """The context whose server has imported what workers need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.end_to_end.preload"])
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context


class Worker:
    """One worker process.

    Parameters
    ----------
    variables : mapping
        Its environment: PORT_... and KAFKA_...
    log : Path
        Where its standard output and error go.
    faults : tuple of callable
    """

    def __init__(self, variables: Mapping[str, str], log: Path, faults: tuple[Fault, ...] = ()) -> None:
        self.log = log
        self._process = _server().Process(
            target=run_worker, args=(dict(variables), str(log), faults), daemon=True
        )
        self._process.start()

    @property
    def alive(self) -> bool:
        return bool(self._process.is_alive())

    def send(self, number: int) -> None:
        """A signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, and wait; the exit status."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"the worker did not end in {seconds} s; see {self.log}"
        return int(self._process.exitcode)

    def events(self, name: str = "") -> Iterator[dict[str, Any]]:
        """What it logged, by the event's name."""
        for line in self.log.read_bytes().splitlines() if self.log.exists() else []:
            with contextlib.suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if isinstance(entry, dict) and name in ("", entry.get("event")):
                    yield entry

    def logged(self, name: str) -> bool:
        return any(self.events(name))

    def end(self) -> None:
        """Whatever it does: it is gone after this."""
        if self.alive:
            self.thaw()
            self.kill()


def wait_for(condition: Callable[[], Any], seconds: float, what: str, pause: float = 0.05) -> Any:
    """Poll until a condition is true; its value.

    Raises
    ------
    AssertionError
        It was not true in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(pause)
    return value
