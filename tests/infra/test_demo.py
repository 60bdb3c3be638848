"""`python -m infra.demo`: from nothing to a report, and everything stopped when it is interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.broker.ports import is_free
from infra.demo import environment_of_children
from tests.conftest import ROOT

KEYS = {"queries", "served", "unserved", "dead", "missing", "twice", "over_budget"}
SETTINGS_OF_ANOTHER_ROUTER = {
    "PORT_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "PORT_CATALOGUE": "/none/catalogue.yaml",
    "PORT_HORIZON": "1",
    "PORT_PARTITIONS": "7",
    "PORT_SECURITY_PROTOCOL": "SSL",
    "PORT_PRESET": "best",
}
"""None of them may reach the demo's programs."""
KEYS |= {"performance", "cost", "budget", "relative", "latency_ms"}


def demo(tmp_path: Path, *arguments: str, capture: bool = True) -> "subprocess.Popen[str]":
    """Start the demo in a session of its own, without a broker from outside, in the shell of a user."""
    environment = {key: value for key, value in os.environ.items() if key != "KAFKA_BOOTSTRAP_SERVERS"}
    environment |= SETTINGS_OF_ANOTHER_ROUTER
    command = [sys.executable, "-m", "infra.demo", "--folder", str(tmp_path / "demo")]
    command += ["--json", str(tmp_path / "demo.json"), *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def assert_stopped(output: str, tmp_path: Path) -> None:
    """Assert that neither the worker nor the embedded broker outlived the demo."""
    processes = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in processes if str(tmp_path) in command] == []
    broker = re.search(r"embedded broker at 127\.0\.0\.1:(\d+)", output)
    assert broker is not None, output
    assert is_free(int(broker.group(1)))


@pytest.mark.timeout(600)  # loading the model is a minute's work, or many where the machine is busy
def test_demo_runs_from_start_to_report(tmp_path: Path) -> None:
    process = demo(tmp_path, "--queries", "20")
    output, _ = process.communicate(timeout=580)
    assert process.returncode == 0, output
    report = json.loads((tmp_path / "demo.json").read_text())
    assert report.keys() >= KEYS
    assert report["queries"] == 20
    assert (report["budget_form"], list(report["by_budget"])) == (
        "one total that all LLMs share (--split shared)",
        ["total"],
    )
    assert report["served"] + report["unserved"] == 20
    assert report["dead"] == report["missing"] == report["twice"] == 0
    prepared = json.loads((tmp_path / "demo" / "prepared.json").read_text())
    assert (prepared["split"], prepared["budget_factor"]) == ("shared", 8.0)
    assert_stopped(output, tmp_path)


def test_demo_environment_excludes_settings_but_external_security() -> None:
    shell = {**SETTINGS_OF_ANOTHER_ROUTER, "port_eps": "1", "KAFKA_BOOTSTRAP_SERVERS": "a:1", "HOME": "/h"}
    both = {"KAFKA_BOOTSTRAP_SERVERS": "b:2", "PORT_BOOTSTRAP_SERVERS": "b:2"}

    assert environment_of_children(shell) == {"HOME": "/h"}
    assert environment_of_children(shell, "b:2") == {"HOME": "/h"} | both
    secured = {"HOME": "/h", "PORT_SECURITY_PROTOCOL": "SSL"} | both
    assert environment_of_children(shell, "b:2", secured=True) == secured


def test_demo_interrupted_stops_everything(tmp_path: Path) -> None:
    process = demo(tmp_path)
    assert process.stdout is not None
    before = ""
    for line in process.stdout:
        before += line
        if "worker runs" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # a terminal's ctrl-C goes to the whole group
    output = process.stdout.read()
    assert process.wait(60) == 130, output
    assert "demo: interrupted; everything is stopped" in output
    assert not (tmp_path / "demo.json").exists()
    assert_stopped(before, tmp_path)


def test_demo_missing_data_set_is_reported(tmp_path: Path) -> None:
    process = demo(tmp_path, "--dataset", str(tmp_path / "none.csv"), "--queries", "5")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "none.csv" in output
    assert "demo: prepare:" in output
    assert "Traceback" not in output
