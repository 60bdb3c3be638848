"""The study of growing histories: the command's rows and table."""

import json

from experiments.__main__ import main


def test_command_history_growth_writes_and_prints_its_rows(command, tmp_path, capsys):
    options = ["--history", "100", "--refit-every", "50", "--words", "0", "--seeds", "0"]
    assert command("history-growth", *options) == 0
    (row,) = json.loads((tmp_path / "history-growth.json").read_text())["rows"]
    assert [len(values) for values in row["blocks"].values()] == [4, 4, 4]
    assert row["blocks"]["fixed"][0] == row["blocks"]["grown"][0]
    assert row["last_full"] == sum(value for value in row["blocks"]["full"] if value is not None)
    assert main(["table", str(tmp_path / "history-growth.json")]) == 0
    assert "of the way" in capsys.readouterr().out
