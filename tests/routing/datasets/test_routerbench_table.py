import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from routing.datasets.cells import turns_as_text
from routing.datasets.routerbench_table import from_frame, load_tabular
from routing.history.rules import HistoryError


def a_table(**changes):
    columns = {
        "sample_id": ["a", "b", "c"],
        "prompt": ["1 + 1?", "NA", "[2] or [3]"],
        "eval_name": ["sums", "words", "sums"],
        "vendor/small": [0.0, 1.0, 0.5],
        "vendor/small|total_cost": [1e-6, 2e-6, 0.1 + 0.2],
        "large": [1, 1, 0],
        "large|total_cost": [1e-4, 2e-4, 3e-4],
    }
    return pd.DataFrame({name: column for name, column in (columns | changes).items() if column is not None})


def write(table, path):
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        with pa.ipc.new_stream(path, arrow.schema) as sink:
            sink.write_table(arrow)
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.arrow"])
def test_load_tabular_every_container_gives_the_same_history(tmp_path, name):
    history = load_tabular(write(a_table(), tmp_path / name))
    assert history.models == ("vendor/small", "large")
    assert history.prompts == ("1 + 1?", "NA", "[2] or [3]")
    assert history.tasks == ("sums", "words", "sums")
    assert history.quality.tolist() == [[0, 1], [1, 1], [0.5, 0]]
    assert history.cost[2].tolist() == [0.1 + 0.2, 3e-4]
    assert history.embed_texts is None
    assert history.digest() == from_frame(a_table(), "frame").digest()


def test_from_frame_other_columns_are_no_llms_and_query_is_embedded():
    table = a_table(
        query=["q1", "q2", "q3"],
        variant=["0shot"] * 3,
        length=[10.0, 200.0, 3.0],
        nothing=[None] * 3,
        **{"few|flag": [True] * 3},
    )
    history = from_frame(table, "frame")
    assert history.models == ("vendor/small", "large")
    assert history.texts == ("q1", "q2", "q3")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "values",
    [[0.0, 1.0, 0.5], [True, False, True], [1.0, np.nan, 0.0], [True, None, False], ["0.5", "", "1"]],
)
def test_from_frame_llm_without_cost_is_logged_or_raises(tmp_path, suffix, values):
    path = write(a_table(forgotten=values), tmp_path / f"answers{suffix}")

    with pytest.raises(HistoryError, match=r"'forgotten\|total_cost' is missing beside 'forgotten'.*USD"):
        load_tabular(path)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.arrow"])
def test_from_frame_booleans_are_qualities(tmp_path, name):
    path = write(a_table(large=[True, False, True]), tmp_path / name)

    assert load_tabular(path).quality[:, 1].tolist() == [1, 0, 1]


def test_from_frame_without_tasks_has_one_task():
    assert from_frame(a_table(eval_name=None), "frame").tasks == ("", "", "")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vendor/small|total_cost": None}, ["'vendor/small|total_cost' is missing", "USD"]),
        ({"large": None}, ["'large' is missing beside 'large|total_cost'"]),
        ({"sample_id": None}, ["'sample_id' is missing", "'prompt'"]),
        ({"prompt": None}, ["'prompt' is missing"]),
        ({"large": [1.0, np.nan, 0.0]}, ["'large', row {2}", "'b'", "1 of 3 rows", "--incomplete drop"]),
        ({"large|total_cost": [1e-4, 1e-4, None]}, ["'large|total_cost', row {3}", "'c'"]),
        ({"large": ["1", "good", "0"]}, ["'large', row {2}", "'good' is not a number", "correct"]),
        ({"large": [1.0, 1.5, 0.0]}, ["quality", "row {2}", "'b'", "'large'", "1.5"]),
        ({"large|total_cost": [1e-4, -1e-4, 1e-4]}, ["cost", "row {2}", "'large'", "-0.0001"]),
        ({"sample_id": ["a", "b", "a"]}, ["ids", "'a'", "row {1} and row {3}"]),
    ],
)
def test_load_tabular_invalid_names_file_column_row_value_and_fix(tmp_path, suffix, changes, words):
    path = write(a_table(**changes), tmp_path / f"answers{suffix}")
    with pytest.raises(HistoryError) as error:
        load_tabular(path)
    # In a text table the header is row 1.
    header = int(suffix == ".csv")
    rows = {str(row): str(row + header) for row in (1, 2, 3)}
    for word in [str(path), *words]:
        for row, number in rows.items():
            word = word.replace("{" + row + "}", number)
        assert word in str(error.value)


def test_load_tabular_without_costs_names_the_required_columns():
    with pytest.raises(HistoryError, match=r"no column ends in '\|total_cost'; there are 'sample_id'.*<llm>"):
        from_frame(a_table()[["sample_id", "prompt"]], "frame")


def test_load_tabular_rows_with_gaps_can_be_dropped():
    table = a_table(large=[1.0, np.nan, 0.0])
    history = from_frame(table, "frame", incomplete="drop")
    assert history.ids == ("a", "c")
    assert history.quality.tolist() == [[0, 1], [0.5, 0]]


def test_load_tabular_missing_text_is_named():
    with pytest.raises(HistoryError, match=r"column 'prompt', row 2 \(sample_id 'b'\): no value"):
        from_frame(a_table(prompt=["x", None, "y"]), "frame")


def test_load_tabular_joins_turns_if_every_prompt_is_a_list():
    lists = ["['one']", "[\"it's\", 'two\\nlines']", "['three']"]
    assert from_frame(a_table(prompt=lists), "frame").prompts == ("one", "it's\ntwo\nlines", "three")
    mixed = [*lists[:2], "[2] or [3]"]
    assert from_frame(a_table(prompt=mixed), "frame").prompts == tuple(mixed)


@pytest.mark.parametrize(
    "prompt",
    [
        "__import__('os').system('false')",
        "[__import__('os')]",
        "[1, 2]",
        "[]",
        "['a'",
        "[" * 5000 + "]" * 5000,
        "['a', 1]",
    ],
)
def test_turns_as_text_other_lists_return_none(prompt):
    assert turns_as_text(prompt) is None


def test_load_tabular_file_without_table_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(HistoryError, match=r"t\.parquet: not readable as a table"):
        load_tabular(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HistoryError, match="no parquet or Arrow file"):
        load_tabular(tmp_path / "empty")
