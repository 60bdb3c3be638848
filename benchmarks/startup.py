"""Time and memory of a worker's start, and the time of commands.

    python -m benchmarks.startup --json docs/results/startup.json

Preset `fast` on the demo's history. The first start is not counted: it compiles modules, and the broker's
code is compiled as it runs. `explain` looks for one of `--queries` routed queries.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median

import psutil
from confluent_kafka import Producer

from benchmarks import presets, synthetic_queries
from benchmarks.program import running
from benchmarks.result_file import report
from benchmarks.stream_run import Run
from infra.broker.native import native_cluster
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
    began = time.monotonic()
    with ready_worker(run, "start", ["streams", "worker"], AS_INSTALLED) as process:
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
    module: Sequence[object],
    variables: Mapping[str, str],
    within: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker until the block ends; yield its process once `/readyz` answers with 200.

    Parameters
    ----------
    run : Run
    name : str
        Of this worker among those of the run.
    module : sequence
        The worker's module and its arguments.
    variables : mapping
        Environment variables beside the run's.
    within : sequence of str
        Command that runs the worker, such as `taskset -c 0`.

    Raises
    ------
    RuntimeError
        The worker ended, or was not ready within `LIMIT_SECONDS`; with its log.
    """
    (port,) = free_ports(1)
    log_file = run.folder / f"{run.name}-{name}.log"
    environment = {**os.environ, **run.variables, "PORT_WEB_PORT": str(port), **variables}
    deadline = time.monotonic() + LIMIT_SECONDS
    with running(module, environment, log_file, within) as process:
        while not is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker is not ready: {log_file.read_text()}")
            time.sleep(0.02)
        yield process


def time_of_help() -> float:
    """Return the seconds that `python -m streams --help` takes."""
    return time_of_command(["--help"], {})


def time_of_command(arguments: Sequence[str], variables: Mapping[str, str]) -> float:
    """Return the seconds that `python -m streams ARGUMENTS` takes.

    Raises
    ------
    CalledProcessError
        It failed.
    """
    command = [sys.executable, "-m", "streams", *arguments]
    environment, began = {**os.environ, **variables, **AS_INSTALLED}, time.monotonic()
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--queries", type=int, default=20_000, help="[%(default)s]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, native_cluster(1) as cluster:
        folder, servers = Path(name), cluster.bootstrap_servers
        prepared = presets.fitted("demo", None, "fast", folder, 1000)
        history = presets.history_of(prepared)
        run = Run(servers, folder, 4, 10**7, history)
        values = presets.raw_messages(prepared, arguments.queries)
        producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
        synthetic_queries.produce(producer, run.settings.topics.queries, values, 4)
        with run.worker("fast", 0):
            run.wait_until_decided(len(values), 600)
        explain = ["explain", f"r{len(values) // 2}"]
        explained = [time_of_command(explain, run.variables) for _ in range(arguments.rounds + 1)]
        starts = [
            start_of_worker(Run(servers, folder, 4, 10**7, history)) for _ in range(arguments.rounds + 1)
        ]
    result = {
        "ready_seconds": median(start["seconds"] for start in starts[1:]),
        "rss_mb": median(start["rss_mb"] for start in starts[1:]),
        "threads": median(start["threads"] for start in starts[1:]),
        "explain_seconds": median(explained[1:]),
        "help_seconds": median(time_of_help() for _ in range(arguments.rounds)),
        "rounds": {"starts": starts, "explain_seconds": explained},
    }
    report("startup", arguments.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
