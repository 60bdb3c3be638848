import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing.datasets.load import load_dataset
from routing.datasets.sprout import load_sprout
from routing.history.rules import HistoryError

LLMS = ("aws-claude-3-5-sonnet-v1", "openai-gpt-4o-mini")


def rows(keys, scores=((1.0, 0.0), (0.5, 1.0))):
    """Return the columns of CARROT-LLM-Routing/SPROUT."""
    structs = {
        name: [
            {
                "num_input_tokens": 100 * (j + 1),
                "num_output_tokens": 10,
                "response": "...",
                "score": scores[j][i],
            }
            for j in range(len(keys))
        ]
        for i, name in enumerate(LLMS)
    }
    return pa.table(
        {
            "key": keys,
            "dataset": ["openhermes/teknium", "MATH (PRE)"][: len(keys)],
            "dataset_level": ["", "Level 5"][: len(keys)],
            "dataset_idx": list(range(len(keys))),
            "prompt": [f"prompt {key}" for key in keys],
            "golden_answer": ["42"] * len(keys),
            **structs,
        }
    )


def publish(folder, **changes):
    (folder / "data").mkdir(parents=True)
    for name, keys in (
        ("train-00000-of-00002", [1, 2]),
        ("train-00001-of-00002", [3, 4]),
        ("test-00000-of-00001", [1]),
    ):
        pq.write_table(rows(keys, **changes), folder / "data" / f"{name}.parquet")
    return folder


def test_load_sprout_folder_gives_scores_and_costs(tmp_path):
    history = load_dataset(publish(tmp_path / "SPROUT"))
    assert history.models == LLMS
    assert history.ids == ("train.1", "train.2", "train.3", "train.4", "test.1")
    assert history.prompts[1] == "prompt 2"
    assert history.tasks[:2] == ("openhermes/teknium", "MATH (PRE)")
    assert history.quality[:2].tolist() == [[1, 0], [0.5, 1]]
    sonnet = [(100 * 3 + 10 * 15) / 1e6, (200 * 3 + 10 * 15) / 1e6]
    mini = [(100 * 0.15 + 10 * 0.6) / 1e6, (200 * 0.15 + 10 * 0.6) / 1e6]
    assert history.cost[:2] == pytest.approx(np.array([sonnet, mini]).T)


def test_load_sprout_reads_one_file_or_one_split(tmp_path):
    folder = publish(tmp_path / "SPROUT")
    assert load_sprout(folder, splits=["test"]).ids == ("1",)
    assert load_dataset(folder / "data" / "test-00000-of-00001.parquet").ids == ("1",)
    with pytest.raises(HistoryError, match="'dev'"):
        load_sprout(folder, splits=["dev"])


def test_load_sprout_reads_the_form_of_the_datasets_library(tmp_path):
    for split, keys in (("train", [1, 2]), ("validation", [3]), ("test", [4])):
        (tmp_path / split).mkdir()
        table = rows(keys)
        with pa.ipc.new_stream(tmp_path / split / "data-00000-of-00001.arrow", table.schema) as sink:
            sink.write_table(table)
    assert load_dataset(tmp_path).ids == ("train.1", "train.2", "validation.3", "test.4")


def test_load_sprout_uses_given_prices_and_names_a_missing_one(tmp_path):
    folder = publish(tmp_path / "SPROUT")
    prices = {LLMS[0]: (1.0, 0.0), LLMS[1]: (0.0, 1.0)}
    assert load_dataset(folder, prices=prices).cost[0].tolist() == [1e-4, 1e-5]
    with pytest.raises(HistoryError, match="prices: none for 'openai-gpt-4o-mini'; pass prices="):
        load_dataset(folder, prices={LLMS[0]: (1.0, 1.0)})
    with pytest.raises(HistoryError, match="prices: 'openai-gpt-4o-mini' has"):
        load_dataset(folder, prices=prices | {LLMS[1]: (-1.0, 1.0)})


def test_load_sprout_missing_score_is_named_or_dropped(tmp_path):
    folder = publish(tmp_path / "SPROUT", scores=((1.0, None), (0.5, 1.0)))
    with pytest.raises(HistoryError, match=r"train-00000.*'openai-gpt-4o-mini', row 1 \(key 'train.1'\)"):
        load_dataset(folder)
    assert load_dataset(folder, incomplete="drop").ids == ("train.2", "train.4")
