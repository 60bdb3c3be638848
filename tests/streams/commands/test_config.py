"""The command `config`."""

from pathlib import Path

import orjson
import pytest

from streams.__main__ import main
from streams.commands.config import settings_table
from tests.conftest import ROOT
from tests.streams.fitting_settings import fitting, unset_settings, write_fitting_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with files that fit together, and unset all settings."""
    unset_settings(monkeypatch)
    return write_fitting_files(tmp_path)


def test_config_check_prints_settings_and_fails_on_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
):
    lines = [f"PORT_{name.upper()}={value}" for name, value in fitting(folder).items()]
    (folder / "settings.env").write_text("\n".join(lines))
    with monkeypatch.context():
        monkeypatch.setenv("PORT_WEB_TOKEN", "hunter2")
        command = ["--env-file", str(folder / "settings.env"), "config", "check", "--offline"]
        for name in fitting(folder):  # so that what the file sets is undone
            monkeypatch.setenv(f"PORT_{name.upper()}", "")
            monkeypatch.delenv(f"PORT_{name.upper()}")

        assert main(command) == 0
        table = capsys.readouterr()
        monkeypatch.setenv("PORT_EPS", "7")
        assert main([*command, "--json"]) == 1
        data = orjson.loads(capsys.readouterr().out)

    assert "the settings are fine" in table.err
    assert "hunter2" not in table.out + table.err
    assert "localhost:9092" in table.out
    assert [mistake.partition(":")[0] for mistake in data["mistakes"]] == ["eps"]
    assert {"name", "value", "source", "description"} == set(data["settings"][0])


def test_config_table_is_in_the_documentation():
    pages = [page for page in (ROOT / "README.md", ROOT / "docs" / "configuration.md") if page.exists()]

    assert any(settings_table() in page.read_text() for page in pages), (
        "run `python -m streams config table` and replace the table in the documentation"
    )
