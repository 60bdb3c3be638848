import json

from experiments.__main__ import main


def test_last_bits_with_figures_compares_with_the_published_ones(command, tmp_path, capsys):
    published = {"performance": 3, "cost": 1, "throughput": 4}
    figures = {"results": {"port_published alpha=0.001 seed=1": published}}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    more = ["--alphas", "1e-3", "--draws", "4", "--figures", str(tmp_path / "figures.json")]
    assert command("last-bits", "--seeds", "0..1", *more) == 0
    first, second = json.loads((tmp_path / "last-bits.json").read_text())["rows"]
    assert first["least"] <= first["median"] <= first["most"]
    assert first["runs"] == 5
    assert "published" not in first
    assert (second["published"], second["identical"]) == (3, 0)
    assert main(["table", str(tmp_path / "last-bits.json")]) == 0
    assert "| port-published:alpha=0.001 | 1 |" in capsys.readouterr().out
