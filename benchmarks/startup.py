"""Time and memory of a worker's start, and the time of a command that loads little."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException

import psutil

from benchmarks.program import running
from benchmarks.stream_run import Run
from infra.broker.ports import free_ports

LIMIT_SECONDS = 120.0


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
    environment, began = os.environ | run.variables | {"PORT_WEB_PORT": str(port)}, time.monotonic()
    with running(["streams", "worker"], environment, log_file) as process:
        while not is_ready(port):
            if process.poll() is not None or time.monotonic() - began > LIMIT_SECONDS:
                raise RuntimeError(f"the worker is not ready: {log_file.read_text()}")
            time.sleep(0.02)
        seconds = time.monotonic() - began
        state = psutil.Process(process.pid)
        return {
            "seconds": round(seconds, 2),
            "rss_mb": round(state.memory_info().rss / 1e6),
            "threads": state.num_threads(),
        }


def time_of_help() -> float:
    """Return the seconds that `python -m streams --help` takes."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "streams", "--help"], check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - began, 2)


def is_ready(port: int) -> bool:
    """Return whether `/readyz` answers with 200."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=1)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
