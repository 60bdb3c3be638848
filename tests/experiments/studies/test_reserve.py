"""The study of reserved amounts: coverage, idle money, overspending, the command."""

import json

from experiments.__main__ import main


def test_command_reserve_compares_amounts(command, tmp_path, capsys):
    policy = "port:k=20:resolve=every:warmup=history:solver=newton"
    options = ["--policy", policy, "--budget-factors", "3", "--outcome-after", "30"]
    assert command("reserve", *options, "--reserves", "estimate,p80,p95-fixed,bound") == 0

    rows = json.loads((tmp_path / "reserve.json").read_text())["rows"]
    by_amount = {row["reserve"]: row for row in rows}
    assert list(by_amount) == ["estimate", "p80", "p95-fixed", "bound"]
    assert by_amount["estimate"]["coverage"] < 0.7
    assert 0.7 < by_amount["p80"]["coverage"] < by_amount["p95-fixed"]["coverage"]
    assert by_amount["bound"]["coverage"] == 1.0
    assert by_amount["bound"]["overspent"] == 0.0
    idle = [row["idle"] for row in rows]
    assert idle == sorted(idle)
    assert main(["table", str(tmp_path / "reserve.json")]) == 0
    assert "worst overspending" in capsys.readouterr().out
    assert command("reserve", "--policy", "random") == 2
    assert "policy" in capsys.readouterr().err
