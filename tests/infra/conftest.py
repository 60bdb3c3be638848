"""Prometheus' own judge of rules, from where it is or out of Debian's package."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.exclusive import alone

PACKAGE = "prometheus"
UNPACKED = ROOT / "build" / "promtool"

Promtool = Callable[..., "subprocess.CompletedProcess[str]"]


def _run(*command: str, folder: Path | None = None) -> str | None:
    """Why it failed; None when it did not."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    return None if done.returncode == 0 else f"{' '.join(command[:2])} failed: {done.stderr.strip()[-300:]}"


def _unpack() -> str | None:
    """Fetch the package and take the program out of it; why not, where it cannot be had.

    Installed, the package would start a Prometheus that stays, and bring the libraries of its pages.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "it is not on the PATH, and there is no apt-get to fetch Debian's package `prometheus` with"
    UNPACKED.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED.parent) as name:
        folder = Path(name)
        fetch = ("apt-get", "download", "-qq", PACKAGE)
        problem = _run(*fetch, folder=folder)
        if problem is not None and os.geteuid() == 0:
            # the lists of what there is are missing, or older than what there is
            problem = _run("apt-get", "update", "-qq") or _run(*fetch, folder=folder)
        if problem is not None:
            return problem
        (package,) = folder.glob("*.deb")
        if (problem := _run("dpkg-deb", "--extract", str(package), str(folder / "all"))) is not None:
            return problem
        (folder / "all" / "usr" / "bin" / "promtool").replace(UNPACKED)
    return None


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Run it: `promtool("check", "rules", path)`."""
    program = shutil.which("promtool")
    if program is None:
        with alone("packages"):
            problem = None if UNPACKED.is_file() else _unpack()
        if problem is not None:
            pytest.skip(f"no promtool: {problem}")
        program = str(UNPACKED)

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=180)

    return run
