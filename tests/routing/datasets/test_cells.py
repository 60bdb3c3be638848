"""Prompts as lists, chats or bytes, all spellings of gaps, and columns that pandas made an index."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing.datasets.cells import turns_as_text
from routing.datasets.load import load_dataset
from routing.datasets.routerbench_table import from_frame
from routing.history.rules import HistoryError
from tests.routing.datasets.tables_on_disk import digest_of, small_table

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])


def write_parquet(path, types=None, **changes):
    """Return the small table with some columns replaced by ones of given Arrow types."""
    table = pa.Table.from_pandas(small_table(), preserve_index=False)
    for name, values in changes.items():
        array = pa.array(values, (types or {}).get(name))
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, array)
        else:
            table = table.append_column(name, array)
    pq.write_table(table, path)
    return path


# --- prompts ------------------------------------------------------------------------------------------------


TURNS = [["What's 2 + 2?", "And times 3?"], ["one"], ["it's", 'a "b"']]
TEXTS = ("What's 2 + 2?\nAnd times 3?", "one", 'it\'s\na "b"')


@pytest.mark.parametrize("column", ["prompt", "query"])
@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.binary()])
def test_read_texts_joins_turns_by_lines(tmp_path, column, text):
    path = write_parquet(tmp_path / "t.parquet", {column: pa.list_(text)}, **{column: TURNS})
    history = load_dataset(path)
    assert (history.prompts if column == "prompt" else history.texts) == TEXTS


def test_read_texts_long_list_of_turns_is_complete(tmp_path):
    turns = [[f"turn {i}" for i in range(1200)], ["b"], ["c"]]
    history = load_dataset(write_parquet(tmp_path / "long.parquet", prompt=turns))
    assert history.prompts[0].split("\n") == turns[0]


@pytest.mark.parametrize("form", ["binary", "large binary", "dictionary"])
def test_read_texts_decodes_bytes_as_utf_8(tmp_path, form):
    kind = pa.large_binary() if form == "large binary" else pa.binary()
    array = pa.array([b"What is 1?", "Où?".encode(), b"3"], kind)
    if form == "dictionary":
        array = array.dictionary_encode()
    path = write_parquet(tmp_path / "bytes.parquet", prompt=array, sample_id=[b"a", b"b", b"c"])
    history = load_dataset(path)
    assert history.prompts == ("What is 1?", "Où?", "3")
    assert history.ids == ("a", "b", "c")


def test_read_texts_joins_the_text_of_chat_messages(tmp_path):
    chats = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1?"}],
        [{"role": "user", "content": "2?"}],
        [{"role": "user", "content": "3?"}],
    ]
    path = write_parquet(tmp_path / "chat.parquet", {"prompt": pa.list_(MESSAGE)}, prompt=chats)
    assert load_dataset(path).prompts == ("Be brief.\n1?", "2?", "3?")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    chats = [[{"role": "user", "content": parts}]] * 3
    assert from_frame(small_table(prompt=chats), "frame").prompts == ("a\nb",) * 3
    sharegpt = [[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]] * 3
    assert from_frame(small_table(prompt=sharegpt), "frame").prompts == ("a\nb",) * 3


@pytest.mark.parametrize("text_of", [str, json.dumps, lambda turns: str(np.array(turns))])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_turns_as_text_reads_lists_written_as_text(tmp_path, text_of, suffix):
    table = small_table(prompt=[text_of(turns) for turns in TURNS])
    path = tmp_path / f"t{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    assert load_dataset(path).prompts == TEXTS


def test_turns_as_text_reads_chats_written_as_json():
    assert turns_as_text('[{"role": "user", "content": "\\ud83d\\ude00 a"}]') == "\N{GRINNING FACE} a"
    assert turns_as_text("['a', 'b' 'c']") is None


@pytest.mark.parametrize(
    ("column", "kind", "values", "message"),
    [
        ("prompt", pa.list_(pa.int64()), [[1, 2], [3], [4]], r"'prompt' is of type list<.*int64>; row 1"),
        ("prompt", pa.int64(), [1, 2, 3], "column 'prompt' is of type int64; row 1 has 1: give a text"),
        ("prompt", pa.list_(pa.string()), [["a"], ["b", None], ["c"]], "row 2 has .*None"),
        ("prompt", pa.list_(pa.string()), [["a"], [], ["c"]], "column 'prompt' is of type list<.*row 2"),
        ("prompt", pa.list_(MESSAGE), [[{"role": "user", "content": None}]] * 3, "type list<.*struct<role"),
        ("prompt", pa.binary(), [b"a", b"\xff", b"c"], "column 'prompt', row 2: bytes that are not UTF-8"),
        ("query", pa.float64(), [0.5, 1.5, 2.5], "column 'query' is of type double"),
        ("sample_id", pa.list_(pa.string()), [["a"], ["b"], ["c"]], "column 'sample_id' is of type list<"),
        ("eval_name", pa.list_(pa.string()), [["a"], ["b"], ["c"]], "column 'eval_name' is of type list<"),
        ("gpt-4", pa.list_(pa.float64()), [[0.5], [1.0], [0.0]], "column 'gpt-4', row 1: .* is not a number"),
    ],
)
def test_read_texts_wrong_type_names_the_columns_type(tmp_path, column, kind, values, message):
    path = write_parquet(tmp_path / "t.parquet", {column: kind}, **{column: values})
    with pytest.raises(HistoryError, match=rf"t\.parquet: .*{message}"):
        load_dataset(path)


@pytest.mark.parametrize("llm", ["google/gemma-2-9b-it", "openai-gpt-4o"])
def test_other_formats_read_lists_and_name_gaps(tmp_path, llm):
    values = [1.0, 0.0, 1.0]
    if llm == "openai-gpt-4o":
        values = [{"score": v, "num_input_tokens": 10, "num_output_tokens": 5} for v in values]
    columns = {"prompt": pa.array(TURNS), llm: pa.array(values)}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert load_dataset(tmp_path / "t.parquet").prompts == TEXTS
    columns["prompt"] = pa.array([TURNS[0], None, TURNS[2]])
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(HistoryError, match=r"t\.parquet: .*column 'prompt', row 2 .*: no value"):
        load_dataset(tmp_path / "t.parquet")
    assert load_dataset(tmp_path / "t.parquet", incomplete="drop").prompts == (TEXTS[0], TEXTS[2])
    columns["prompt"] = pa.array([1, 2, 3])
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(HistoryError, match="column 'prompt' is of type int64"):
        load_dataset(tmp_path / "t.parquet")


def test_leaderboard_table_as_csv_has_gaps(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("index,prompt,google/gemma-2-9b-it\n1,a,1\n2,b,NA\n3,c,0\n")
    with pytest.raises(HistoryError, match=r"column 'google/gemma-2-9b-it', row 3 \(index '2'\): no value"):
        load_dataset(path)
    assert load_dataset(path, incomplete="drop").ids == ("1", "3")


# --- gaps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gap", ["NA", "N/A", "#N/A", "None", "null", "<NA>", "NaN", "nan", "NULL", "n/a", " ", "", " NA "]
)
@pytest.mark.parametrize("column", ["gpt-4", "mixtral|total_cost"])
def test_read_numbers_any_spelling_of_a_gap_is_a_gap(tmp_path, gap, column):
    values = [str(value) for value in small_table()[column]]
    small_table(**{column: [values[0], gap, values[2]]}).to_csv(tmp_path / "na.csv", index=False)
    assert load_dataset(tmp_path / "na.csv", incomplete="drop").ids == ("mmlu.0", "mmlu.2")
    with pytest.raises(HistoryError) as error:
        load_dataset(tmp_path / "na.csv")
    assert f"column {column!r}, row 3 (sample_id 'mmlu.1'): no value" in str(error.value)
    assert "1 of 3 rows have such a gap" in str(error.value)
    assert "--incomplete drop" in str(error.value)


@pytest.mark.parametrize("gap", [None, float("nan"), pd.NA, pd.NaT, "NA"])
@pytest.mark.parametrize("way", ["frame", "pickle", "string", "parquet"])
def test_read_numbers_any_type_of_gap_is_a_gap(tmp_path, gap, way):
    table = small_table(**{"gpt-4": ["0.5", gap, "0"]})
    path = tmp_path / "t.data"
    if way == "pickle" and gap is not pd.NaT:
        table.to_pickle(path)
        loaded = load_dataset(path, incomplete="drop")
    elif way in ("string", "parquet"):
        if way == "string":
            table["gpt-4"] = table["gpt-4"].astype("string")
        else:
            table["gpt-4"] = [text if isinstance(text, str) else None for text in table["gpt-4"]]
        table.to_parquet(path)
        loaded = load_dataset(path, incomplete="drop")
    else:
        loaded = from_frame(table, "frame", "drop")
    assert loaded.ids == ("mmlu.0", "mmlu.2")


def test_read_texts_prompt_na_is_no_gap(tmp_path):
    small_table(prompt=["NA", "None", "null"]).to_csv(tmp_path / "t.csv", index=False)
    assert load_dataset(tmp_path / "t.csv").prompts == ("NA", "None", "null")


@pytest.mark.parametrize("column", ["sample_id", "prompt", "query"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_read_texts_missing_text_is_a_gap(tmp_path, column, suffix):
    table = small_table(query=["q1", "q2", "q3"])
    table.loc[1, column] = None
    path = tmp_path / f"t{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    assert load_dataset(path, incomplete="drop").ids == ("mmlu.0", "mmlu.2")
    with pytest.raises(HistoryError, match=rf"column '{column}', row {2 + (suffix == '.csv')} .*: no value"):
        load_dataset(path)


def test_read_identifiers_missing_task_is_none(tmp_path):
    small_table(eval_name=["t", None, "u"]).to_parquet(tmp_path / "t.parquet")
    assert load_dataset(tmp_path / "t.parquet").tasks == ("t", "", "u")


def test_load_dataset_table_of_gaps_has_no_rows(tmp_path):
    small_table(mixtral=["NA"] * 3).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(HistoryError, match=r"t\.csv: .*no rows"):
        load_dataset(tmp_path / "t.csv", incomplete="drop")


# --- index columns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["sample_id"], ["prompt"], ["sample_id", "eval_name"], ["gpt-4"]])
@pytest.mark.parametrize("way", ["parquet", "pickle", "frame", "csv", "arrow"])
def test_load_dataset_reads_a_column_that_is_the_index(tmp_path, names, way):
    table, path = small_table().set_index(names), tmp_path / "t.data"
    if way == "frame":
        history = from_frame(table, "frame")
    else:
        if way == "arrow":
            arrow = pa.Table.from_pandas(table)
            with pa.ipc.new_file(path, arrow.schema) as sink:
                sink.write_table(arrow)
        else:
            getattr(table, f"to_{way}")(path)
        history = load_dataset(path)
    assert history.with_models(["gpt-4", "mixtral"]).digest() == digest_of(small_table())


@pytest.mark.parametrize("way", ["parquet", "pickle"])
def test_load_dataset_reads_a_named_range_index(tmp_path, way):
    table = small_table(sample_id=None)
    table.index = pd.RangeIndex(10, 16, 2, name="sample_id")
    getattr(table, f"to_{way}")(tmp_path / "t.data")
    assert load_dataset(tmp_path / "t.data").ids == ("10", "12", "14")


@pytest.mark.parametrize("way", ["parquet", "pickle"])
def test_load_dataset_unnamed_index_is_no_llm(tmp_path, way):
    table = small_table()[:2]
    table.index = [1, 0]
    getattr(table, f"to_{way}")(tmp_path / "t.data")
    assert load_dataset(tmp_path / "t.data").models == ("gpt-4", "mixtral")


def test_load_dataset_duplicate_column_is_named_in_every_container(tmp_path):
    table = small_table()
    twice = pd.concat([table, table[["gpt-4"]]], axis=1)
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(arrow.append_column("gpt-4", arrow.column("gpt-4")), tmp_path / "t.parquet")
    twice.to_pickle(tmp_path / "t.pkl")
    for name in ("t.parquet", "t.pkl"):
        with pytest.raises(HistoryError, match=rf"{name}: column 'gpt-4' is a duplicate"):
            load_dataset(tmp_path / name)
    with pytest.raises(HistoryError, match="frame: column 'gpt-4' is a duplicate"):
        from_frame(twice, "frame")
