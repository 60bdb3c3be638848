"""Time and memory of a worker's start, and the time of a command that loads little."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from benchmarks.program import running
from benchmarks.stream_run import Run
from infra.broker.ports import free_ports

LIMIT_SECONDS = 120.0

AS_INSTALLED = {"PYTHONDONTWRITEBYTECODE": ""}
"""Modules are compiled once, as where this variable is not set; the first start does it."""


def start_of_worker(run: Run) -> dict[str, float]:
    """Start `python -m streams worker` and return its figures once `/readyz` answers with 200.

    Returns
    -------
    dict of str to float
        `seconds` from the start of the process, `rss_mb` of resident memory in 10^6 bytes, and `threads`.

    Raises
    ------
    RuntimeError
        The worker ended, or was not ready within `LIMIT_SECONDS`.
    """
    (port,) = free_ports(1)
    log_file = run.folder / f"{run.name}-start.log"
    own = {"PORT_WEB_PORT": str(port), **AS_INSTALLED}
    environment, began = os.environ | run.variables | own, time.monotonic()
    with running(["streams", "worker"], environment, log_file) as process:
        wait_until_ready(process, port, log_file)
        seconds = time.monotonic() - began
        state = psutil.Process(process.pid)
        return {
            "seconds": round(seconds, 2),
            "rss_mb": round(state.memory_info().rss / 1e6),
            "threads": state.num_threads(),
        }


@contextmanager
def ready_worker(
    run: Run,
    name: str,
    arguments: Sequence[object],
    variables: Mapping[str, str],
    within: Sequence[str] = (),
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a worker of `benchmarks.worker_process` until the block ends.

    Parameters
    ----------
    run : Run
    name : str
        Of this worker among those of the run.
    arguments : sequence
        Of `benchmarks.worker_process`, apart from `--stages`.
    variables : mapping
        Environment variables beside the run's.
    within : sequence of str
        Command that runs the worker, such as `taskset -c 0`.

    Yields
    ------
    (subprocess.Popen, float)
        Its process, and the time at which it was ready.

    Raises
    ------
    RuntimeError
        The worker ended, or was not ready within `LIMIT_SECONDS`.
    """
    (port,) = free_ports(1)
    log_file = run.folder / f"{run.name}-{name}.log"
    module = ["benchmarks.worker_process", *arguments, "--stages", run.folder / f"{run.name}-{name}.json"]
    environment = {**os.environ, **run.variables, "PORT_WEB_PORT": str(port), **variables}
    with running(module, environment, log_file, within) as process:
        wait_until_ready(process, port, log_file)
        yield process, time.time()


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log_file: Path) -> None:
    """Wait until `/readyz` answers with 200.

    Raises
    ------
    RuntimeError
        The worker ended, or was not ready within `LIMIT_SECONDS`; with its log.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while not is_ready(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the worker is not ready: {log_file.read_text()}")
        time.sleep(0.02)


def time_of_help() -> float:
    """Return the seconds that `python -m streams --help` takes."""
    began = time.monotonic()
    command, environment = [sys.executable, "-m", "streams", "--help"], os.environ | AS_INSTALLED
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - began, 2)


def is_ready(port: int) -> bool:
    """Return whether `/readyz` answers with 200."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=1)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
