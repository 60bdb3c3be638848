"""`python -m routing history extend`: rows of answered queries, refusals, the new fit."""

import json
from dataclasses import replace

import numpy as np
import pytest

from routing.__main__ import main
from routing.embedding.unit_vectors import normalised
from routing.fitting.fit import fit
from routing.fitting.presets import choose_preset
from routing.fitting.saved_fit import FitFacts, load_fitted, save_fitted
from routing.history.history import History
from routing.history_extension import read_answered

ROWS = 1000
WORDS = ["treaty", "senate", "law", "court", "cell", "protein", "gene", "tissue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fitted history of hashed words, which needs no model."""
    path = tmp_path_factory.mktemp("fit")
    random = np.random.default_rng(0)
    prompts = [" ".join(random.choice(WORDS, 6)) + f" {i}?" for i in range(ROWS)]
    quality = np.clip(np.array([0.4, 0.6]) + random.normal(0, 0.2, (ROWS, 2)), 0, 1)
    cost = np.tile([1e-5, 1e-4], (ROWS, 1))
    names = [f"h{i}" for i in range(ROWS)]
    history = History(names, prompts, ["t"] * ROWS, ["small", "large"], quality, cost)
    vectors = normalised(random.normal(size=(ROWS, 16)).astype(np.float32))
    preset, reason = choose_preset(ROWS, "fast")
    fitted = fit(history, replace(preset, dimension=8), embeddings=vectors)
    save_fitted(path / "history", fitted, FitFacts("fast", reason, fitted.history.digest(), "made"))
    return path / "history"


def written(tmp_path, *rows):
    path = tmp_path / "answered.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answer(number, **fields):
    plain = {
        "id": f"a{number}",
        "prompt": f"law court {number}",
        "model": "small",
        "quality": 0.9,
        "cost": 2e-5,
    }
    return plain | fields


def extend(folder, path, out) -> int:
    return main(["history", "extend", "--history", str(folder), "--answered", str(path), "--out", str(out)])


def test_extend_adds_rows_that_keep_what_was_reported_and_fills_in_the_rest(folder, tmp_path):
    rows = [answer(i) for i in range(20)]
    path = written(tmp_path, *rows, answer(3, quality=0.1), answer(99, model="other"), answer(98, id="h1"))
    assert extend(folder, path, tmp_path / "longer") == 0
    _, estimator, longer = load_fitted(tmp_path / "longer")
    before = load_fitted(folder).history
    added = longer.history.quality[ROWS:]
    assert len(longer) == ROWS + 20
    assert longer.history.ids[ROWS:] == tuple(f"a{i}" for i in range(20))
    assert added[:, 0].tolist() == [0.1 if i == 3 else 0.9 for i in range(20)]
    assert ((added[:, 1] >= 0) & (added[:, 1] <= 1)).all()
    assert longer.history.cost[ROWS:, 0].tolist() == [2e-5] * 20
    assert np.array_equal(longer.history.quality[:ROWS], before.history.quality)
    assert estimator.leave_one_out().quality.shape == (ROWS + 20, 2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (answer(0, quality=1.5), "line 1: quality: 1.5 must be a number from 0 to 1"),
        (answer(0, cost=None), "line 1: cost: None must be a number from 0 or more"),
        (answer(0, prompt=""), "line 1: prompt: '' must be a text"),
        ([], "line 1: is not an object"),
        (answer(0, model="other"), "no answer of an LLM of the history on a new query"),
    ],
)
def test_extend_invalid_line_is_an_error_that_names_it(folder, tmp_path, capsys, row, message):
    assert extend(folder, written(tmp_path, row), tmp_path / "longer") == 2
    assert message in capsys.readouterr().err


def test_read_answered_line_that_is_no_json_is_an_error(tmp_path):
    (tmp_path / "answered.jsonl").write_text("\n{broken\n")
    with pytest.raises(ValueError, match="line 2: is not JSON"):
        list(read_answered(tmp_path / "answered.jsonl"))
