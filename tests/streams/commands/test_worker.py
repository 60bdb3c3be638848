"""The command `worker`."""

from argparse import Namespace
from pathlib import Path

import orjson
import pytest

from streams.commands.worker import run
from streams.config.settings import Settings
from tests.streams.fitting_settings import fitting, unset_settings, write_fitting_files


def test_worker_with_an_unknown_variable_logs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    unset_settings(monkeypatch)
    write_fitting_files(tmp_path)
    for name, value in (fitting(tmp_path) | {"horizn": 3}).items():
        monkeypatch.setenv(f"PORT_{name.upper()}", str(value))
    started: list[Settings] = []
    monkeypatch.setattr("streams.worker.startup.main", started.append)

    assert run(Namespace(shadow=False)) == 0

    logged = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
    (text,) = [line["note"] for line in logged if line["event"] == "variable_unknown"]
    assert text == "PORT_HORIZN: there is no such setting; PORT_HORIZON is meant?"
    assert started == [Settings()]
