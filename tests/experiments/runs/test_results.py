import json

import numpy as np
from structlog.testing import capture_logs

from experiments.__main__ import main
from experiments.runs.results import read_results


def test_results_with_other_rows_in_the_file_keep_them(command, tmp_path):
    written = tmp_path / "main.json"
    assert command("main", "--seeds", "0", "--policies", "random,cheapest") == 0
    before = json.loads(written.read_text())["rows"]
    assert command("main", "--seeds", "1", "--policies", "best-single") == 0
    after = json.loads(written.read_text())["rows"]
    assert [(r["policy"], r["seed"]) for r in after] == [("random", 0), ("cheapest", 0), ("best-single", 1)]
    assert after[:2] == before


def test_results_of_other_embeddings_are_rejected(command, data, tmp_path, capsys):
    written = tmp_path / "main.json"
    assert command("main", "--policies", "random") == 0
    other = data[1][:, ::-1]
    np.save(tmp_path / "other.npy", other)
    more = ["--policies", "cheapest", "--embeddings", str(tmp_path / "other.npy")]
    assert command("main", *more) == 2
    assert "vectors" in capsys.readouterr().err
    assert command("main", "--policies", "cheapest", "--embedder", "another") == 2
    assert "embedder" in capsys.readouterr().err
    # An old file without a digest of the embeddings is accepted, and gets none afterwards.
    results = json.loads(written.read_text())
    del results["config"]["vectors"]
    written.write_text(json.dumps(results))
    with capture_logs() as logs:
        assert command("main", *more) == 0
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["rows_of_unknown_embeddings"]
    results = json.loads(written.read_text())
    assert len(results["rows"]) == 2
    assert "vectors" not in results["config"]


def test_results_with_a_gz_name_are_compressed_resumed_and_printed(command, tmp_path, capsys):
    plain, zipped = tmp_path / "main.json", tmp_path / "rows.json.gz"
    options = ["--policies", "random,cheapest", "--seeds", "0"]
    assert command("main", *options) == 0
    assert command("main", *options, "--json", str(zipped)) == 0
    assert zipped.read_bytes()[:2] == b"\x1f\x8b"
    first = read_results(zipped)["rows"]
    for row, expected in zip(first, read_results(plain)["rows"], strict=True):
        assert row | {"seconds": 0} == expected | {"seconds": 0}

    assert command("main", "--policies", "best-single", "--seeds", "0", "--json", str(zipped)) == 0
    assert read_results(zipped)["rows"][:2] == first
    assert len(read_results(zipped)["rows"]) == 3

    capsys.readouterr()
    assert main(["table", str(zipped)]) == 0
    assert "| best-single | " in capsys.readouterr().out
    assert main(["plot", str(zipped), str(tmp_path / "plot"), "--kind", "bars"]) == 0
    assert "best-single" in (tmp_path / "plot.svg").read_text()
