"""The Makefile: it lists itself, and installs once for each change of what is installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def make(*arguments: str, folder: Path = ROOT) -> str:
    # Not this make's own variables: the suite itself may run under `make test`.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_help_lists_every_target() -> None:
    listed = re.findall(r"^  make ([a-z-]+) +\S.*", make("help"), re.MULTILINE)
    assert listed == TARGETS
    assert make() == make("help")


@pytest.mark.parametrize(
    "target", ["install", "demo", "test", "lint", "chaos", "bench", "broker-up", "broker-down", "clean"]
)
def test_make_documented_targets_exist(target: str) -> None:
    assert target in TARGETS


def test_make_install_repeats_only_after_changes(tmp_path: Path) -> None:
    for name in ("Makefile", "setup.cfg", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "infra").mkdir()
    script = tmp_path / "infra" / "install.sh"
    script.write_text('#!/bin/sh\nmkdir -p "$1" && echo installed >> runs\n')
    script.chmod(0o755)
    runs = tmp_path / "runs"

    make("install", folder=tmp_path)
    assert "Nothing to be done" in make("install", folder=tmp_path)
    assert runs.read_text() == "installed\n"
    stamp = (tmp_path / ".venv" / ".installed").stat().st_mtime
    for changed in ("setup.cfg", "constraints.txt"):
        stamp += 10
        os.utime(tmp_path / changed, (stamp, stamp))
        make("install", folder=tmp_path)
        os.utime(tmp_path / ".venv" / ".installed", (stamp, stamp))
    assert runs.read_text() == "installed\n" * 3


def test_make_demo_of_preset_fast_has_an_environment_of_its_own(tmp_path: Path) -> None:
    for name in ("Makefile", "setup.cfg", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "infra").mkdir()
    shutil.copy(ROOT / "infra" / "install.sh", tmp_path / "infra")

    fast = " ".join(make("--dry-run", "demo", "PRESET=fast", folder=tmp_path).split())
    assert "infra/install.sh .venv-slim replay,embedded" in fast
    assert ".venv-slim/bin/python -m infra.demo --preset fast" in fast
    for other in ([], ["PRESET=best"], ["PRESET=fast", "DATASET=x.csv"]):
        commands = make("--dry-run", "demo", *other, folder=tmp_path)
        assert ".venv/bin/python -m infra.demo" in commands
        assert "slim" not in commands


def test_ci_workflow_calls_make_test() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert run.read_text().rstrip().endswith("make test")
