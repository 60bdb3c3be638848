"""Processes that can outlive the program that started them, identified by id and creation time."""

import os
import shutil
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ProcessId:
    """Unique identity of a process of this machine.

    Parameters
    ----------
    pid : int
        Process id. The kernel reuses ids, so the id alone is not unique.
    created : float
        Creation time as the kernel reports it, in seconds since the epoch.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Return the identity of the process that has this id now."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Return the process, or None if it has ended or is a zombie."""
        try:
            process = psutil.Process(self.pid)
            # The kernel counts ticks of 10 ms from the boot time, which clock corrections can change.
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        """True if the process exists; a frozen one counts as alive."""
        return self.find() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal if the process still exists."""
        process = self.find()
        if process is not None:
            process.send_signal(number)

    def kill(self) -> None:
        """Kill the process (SIGKILL) and wait until it is gone."""
        self._signal_and_wait(signal.SIGKILL, timeout=10.0)

    def stop(self, timeout: float = 15.0) -> None:
        """Terminate the process (SIGTERM); kill it if it has not ended after `timeout` seconds."""
        self.send(signal.SIGCONT)  # a frozen process cannot act on SIGTERM
        if not self._signal_and_wait(signal.SIGTERM, timeout):
            self.kill()

    def _signal_and_wait(self, number: signal.Signals, timeout: float) -> bool:
        process = self.find()
        if process is None:
            return True
        try:
            process.send_signal(number)
            process.wait(timeout)  # also reaps a child of this process
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            return False
        return True


def spawn(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, bound: bool = False
) -> ProcessId:
    """Start a program in its own session and append its output to a file.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    log : Path
        File for standard output and standard error.
    environment : mapping, optional
        The program's complete environment; by default that of this process.
    bound : bool
        Whether the program must not outlive this one, even if this one is killed. That needs `setpriv`
        (util-linux) and a call from the main thread, because the kernel binds a child to its parent thread.

    Returns
    -------
    ProcessId
        The process; it may have ended already if it could not start properly.
    """
    binder = (
        shutil.which("setpriv") if bound and threading.current_thread() is threading.main_thread() else None
    )
    argv = [binder, "--pdeathsig", "KILL", "--", *command] if binder else list(command)
    # subprocess.Popen warns when its object is deleted before the process ends.
    pid = os.posix_spawnp(
        argv[0],
        argv,
        os.environ if environment is None else environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return ProcessId.of(pid)


def log_tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log file, for an error message."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(empty log)"
