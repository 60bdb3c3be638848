"""Router workers as processes that tests may kill, freeze and stop.

A fork server has imported everything, so that a worker starts in a fraction of a second. It then runs the
same program as `python -m streams worker`.
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
"""Picklable function that changes the worker; called in its process before it starts."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run_worker(
    variables: Mapping[str, str], log: str, faults: tuple[Fault, ...], options: tuple[str, ...] = ()
) -> None:
    """Run a worker in this process."""
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

    sys.exit(main(["worker", *options]))


def _server() -> Any:
    """Return the context whose fork server has imported the modules of workers."""
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


MAX_PAUSE_SECONDS = 0.4


class Worker:
    """One worker process.

    Parameters
    ----------
    variables : mapping
        Environment variables PORT_... and KAFKA_...
    log : Path
        File of its standard output and error.
    faults : tuple of callable
    options : tuple of str
        Of the command line.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        log: Path,
        faults: tuple[Fault, ...] = (),
        options: tuple[str, ...] = (),
    ) -> None:
        self.log = log
        self._process = _server().Process(
            target=run_worker, args=(dict(variables), str(log), faults, options), daemon=True
        )
        self._process.start()

    @property
    def alive(self) -> bool:
        return bool(self._process.is_alive())

    def send(self, number: int) -> None:
        """Send a signal if the process still exists."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self.send(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def stop(self, seconds: float = 30.0) -> int:
        """Send SIGTERM, wait, and return the exit status."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for the end and return the exit status, which is negative after a signal."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"the worker did not end in {seconds} s; see {self.log}"
        return int(self._process.exitcode)

    def events(self, name: str = "") -> Iterator[dict[str, Any]]:
        """Yield the log's events, optionally those of one name."""
        for line in self.log.read_bytes().splitlines() if self.log.exists() else []:
            with contextlib.suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if isinstance(entry, dict) and name in ("", entry.get("event")):
                    yield entry

    def logged(self, name: str) -> bool:
        return any(self.events(name))

    def end(self) -> None:
        """Kill the process if it is alive, even if it is frozen."""
        if self.alive:
            self.thaw()
            self.kill()


def wait_for(condition: Callable[[], Any], seconds: float, what: str, pause: float = 0.05) -> Any:
    """Poll until a condition is true and return its value.

    Looks become rarer the longer it waits, up to `MAX_PAUSE_SECONDS`: many read whole topics or logs.

    Raises
    ------
    AssertionError
        The condition was not true in time.
    """
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not in {seconds:.0f} s: {what}"
        time.sleep(max(pause, min(0.1 * waited, MAX_PAUSE_SECONDS)))
    return value
