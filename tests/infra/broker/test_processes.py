"""Processes: distinguished from strangers with the same id, frozen, stopped, killed, bound to their maker."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.broker.processes import ProcessId, log_tail, spawn
from tests.conftest import ROOT

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(600)",
]


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time limit"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path):
    started: list[ProcessId] = []

    def run(command: list[str], **options) -> ProcessId:
        started.append(spawn(command, tmp_path / "log", **options))
        return started[-1]

    yield run
    for process in started:
        process.kill()


def test_process_stop_and_kill_end_it(start) -> None:
    for end in (ProcessId.stop, ProcessId.kill):
        process = start(SLEEP)
        assert process.alive
        end(process)
        assert not process.alive
        end(process)  # ending it twice is no error


def test_process_frozen_is_alive_and_can_be_stopped(start) -> None:
    process = start(SLEEP)
    process.send(signal.SIGSTOP)
    running = process.find()
    assert running is not None
    wait_for(lambda: running.status() == psutil.STATUS_STOPPED)
    assert process.alive
    process.stop()
    assert not process.alive


def test_process_ignoring_sigterm_is_killed(start, tmp_path: Path) -> None:
    process = start(STUBBORN)
    wait_for(lambda: "on" in log_tail(tmp_path / "log"))
    process.stop(timeout=0.2)
    assert not process.alive


def test_process_other_with_same_id_is_not_touched(start) -> None:
    process = start(SLEEP)
    namesake = ProcessId(process.pid, process.created - 60)
    assert not namesake.alive
    namesake.kill()
    assert process.alive


def test_spawn_writes_output_to_the_log(start, tmp_path: Path) -> None:
    start(
        [sys.executable, "-c", "import os, sys; print(os.environ['WORD']); print('bad', file=sys.stderr)"],
        environment={"WORD": "good"},
    )
    wait_for(lambda: "bad" in log_tail(tmp_path / "log"))
    assert "good" in log_tail(tmp_path / "log")
    assert log_tail(tmp_path / "none") == "(no log)"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv (util-linux), which binds a process")
def test_spawn_bound_process_ends_with_its_parent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ready = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
    program = (
        "import time; from pathlib import Path; from infra.broker.processes import spawn;"
        f"print(spawn({ready!r}, Path({str(log)!r}), bound=True).pid, flush=True); time.sleep(600)"
    )
    maker = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    child = ProcessId.of(int(maker.stdout.readline()))
    wait_for(lambda: "ready" in log_tail(log))
    maker.kill()
    maker.communicate()
    wait_for(lambda: not child.alive)
