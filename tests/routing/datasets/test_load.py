import pickle

import numpy as np
import pandas as pd
import pytest

from routing.datasets.demo import load_demo
from routing.datasets.load import load_dataset
from routing.history.rules import HistoryError


def test_load_dataset_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such data set"):
        load_dataset(tmp_path / "absent.parquet")


def test_load_dataset_unknown_format_names_its_columns(tmp_path):
    pd.DataFrame({"text": ["a"], "label": [1]}).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(
        HistoryError, match=r"format unknown; there are the columns 'text', 'label'\. Give each LLM"
    ):
        load_dataset(tmp_path / "x.csv")


def test_load_dataset_detects_the_format_by_content(tmp_path):
    table = pd.DataFrame({"sample_id": ["a"], "prompt": ["p"], "m": [1.0], "m|total_cost": [0.1]})
    table.to_parquet(tmp_path / "x.data")
    (tmp_path / "y.data").write_bytes(pickle.dumps(table))
    table.to_csv(tmp_path / "z.data", index=False)
    assert len({load_dataset(tmp_path / name).digest() for name in ("x.data", "y.data", "z.data")}) == 1


def test_load_dataset_reads_a_saved_history(tmp_path):
    history, _ = load_demo()
    history.select(np.arange(10)).save(tmp_path)
    assert load_dataset(tmp_path).ids == history.history.ids[:10]


@pytest.mark.parametrize(
    ("name", "rows", "models"), [("open_llm_v2", 17793, 18), ("routerbench_subset", 3476, 11)]
)
def test_load_dataset_reads_the_benchmarks(shared_file, name, rows, models):
    history = load_dataset(shared_file(f"data/{name}.parquet"))
    assert len(history) == rows
    assert len(history.models) == models
    assert (history.embed_texts is not None) == (name == "routerbench_subset")


def test_load_dataset_pickled_benchmark_is_equal(shared_file, tmp_path):
    path = shared_file("data/routerbench_subset.parquet")
    table = pd.read_parquet(path)
    table.to_pickle(tmp_path / "rb.pkl")
    assert load_dataset(tmp_path / "rb.pkl").digest() == load_dataset(path).digest()
