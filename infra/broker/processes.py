"""Processes that outlive the program that started them: found again by id and time of birth, and ended."""

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
    """A process of this machine that cannot be mistaken for another.

    Parameters
    ----------
    pid : int
        Process id. Ids are used again, so it names nobody alone.
    created : float
        When the process was born, in seconds since the epoch, as the kernel tells it.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Name the process that has this id now."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Give the process, or None when it has ended (a zombie has)."""
        try:
            process = psutil.Process(self.pid)
            # The kernel counts births in ticks of 10 ms from a boot time that may be corrected by the clock.
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        """Whether the process runs (a frozen one does)."""
        return self.find() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        process = self.find()
        if process is not None:
            process.send_signal(number)

    def kill(self) -> None:
        """End the process at once (SIGKILL) and wait until it is gone."""
        self._end(signal.SIGKILL, patience=10.0)

    def stop(self, patience: float = 15.0) -> None:
        """End the process in order (SIGTERM); kill it when it has not ended after `patience` seconds."""
        self.send(signal.SIGCONT)  # a frozen process cannot act on SIGTERM
        if not self._end(signal.SIGTERM, patience):
            self.kill()

    def _end(self, number: signal.Signals, patience: float) -> bool:
        process = self.find()
        if process is None:
            return True
        try:
            process.send_signal(number)
            process.wait(patience)  # also reaps it, where it is a child of ours
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            return False
        return True


def spawn(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, bound: bool = False
) -> ProcessId:
    """Start a program in a session of its own, its output appended to a file.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    log : Path
        File that takes standard output and standard error.
    environment : mapping, optional
        All of its variables; by default this process's.
    bound : bool
        Whether the program must not outlive this one, even when this one is killed. It needs `setpriv`
        (util-linux) and holds only when called from the main thread, since the kernel binds a child to the
        thread that made it.

    Returns
    -------
    ProcessId
        The process; it may have ended already when it could not start properly.
    """
    binder = (
        shutil.which("setpriv") if bound and threading.current_thread() is threading.main_thread() else None
    )
    argv = [binder, "--pdeathsig", "KILL", "--", *command] if binder else list(command)
    # Not subprocess.Popen: its objects complain when they are dropped before their process ends.
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
    """Give the last lines of a log file, for an error message."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(empty log)"
