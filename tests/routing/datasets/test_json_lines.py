"""JSON Lines with any file name, and errors that name the line."""

from __future__ import annotations

import gzip
import json

import pytest

from routing.datasets.load import load_dataset
from routing.history.rules import HistoryError
from tests.routing.datasets.tables_on_disk import digest_of, small_table


def lines_of(table):
    return [json.dumps(row) for row in table.to_dict("records")]


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "X.JSONL", "x.json", "x.data"])
def test_json_lines_with_any_file_name_are_read(tmp_path, name):
    table = small_table()
    (tmp_path / name).write_text("\n".join(lines_of(table)) + "\n\n")
    assert load_dataset(tmp_path / name).digest() == digest_of(table)


def test_json_lines_with_crlf_bom_and_gzip_are_read(tmp_path):
    table = small_table()
    data = "\r\n".join(lines_of(table)).encode("utf-8-sig")
    (tmp_path / "x.jsonl.GZ").write_bytes(gzip.compress(data))
    assert load_dataset(tmp_path / "x.jsonl.GZ").digest() == digest_of(table)


def test_json_array_of_objects_is_read(tmp_path):
    table = small_table()
    (tmp_path / "x.json").write_text(json.dumps(table.to_dict("records"), indent=1))
    assert load_dataset(tmp_path / "x.json").digest() == digest_of(table)


def test_json_lines_with_mixed_types_are_read(tmp_path):
    rows = small_table().to_dict("records")
    rows[0] |= {"sample_id": 7, "gpt-4": True}
    rows[1] |= {"sample_id": 10**30, "gpt-4": "1"}
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    history = load_dataset(tmp_path / "x.jsonl")
    assert history.ids == ("7", str(10**30), "mmlu.2")
    assert history.quality[:, 0].tolist() == [1, 1, 0]


def test_json_lines_prompts_as_chat_messages_are_read(tmp_path):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1?"}]
    table = small_table(prompt=[messages, messages[1:], [{"role": "user", "content": "3?"}]])
    (tmp_path / "x.jsonl").write_text("\n".join(lines_of(table)))
    assert load_dataset(tmp_path / "x.jsonl").prompts == ("Be brief.\nWhat is 1?", "What is 1?", "3?")


def test_json_lines_texts_and_turns_in_one_column_are_read(tmp_path):
    rows = small_table().to_dict("records")
    rows[0]["prompt"], rows[1]["prompt"] = ["a", "b"], [{"role": "user", "content": "c"}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_dataset(tmp_path / "x.jsonl").prompts == ("a\nb", "c", "What\nis 3?")
    for wrong in ([1], 7, {"text": "d"}):
        rows[1]["prompt"] = wrong
        (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(HistoryError, match=r"x\.jsonl: column 'prompt' is of several types; row 2 has"):
            load_dataset(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sample_id": "c", "prompt"', "row 4: not JSON"),
        ("[1, 2]", "row 4: list, not an object"),
        ('{"sample_id": "c", "sample_id": "d"}', "row 4: column 'sample_id' is a duplicate"),
        ('{"sample_id": "c", "prompt": "p"}', r"column 'gpt-4', row 4 \(sample_id 'c'\): no value"),
        ('{"sample_id": "c", "gpt-4": "much"}', "column 'gpt-4', row 4: 'much' is not a number"),
    ],
)
def test_json_lines_invalid_line_is_named(tmp_path, line, message):
    (tmp_path / "x.jsonl").write_text("\n".join([*lines_of(small_table()), line]))
    with pytest.raises(HistoryError, match=rf"x\.jsonl: .*{message}"):
        load_dataset(tmp_path / "x.jsonl")


def test_json_lines_with_gaps_can_be_dropped(tmp_path):
    lines = [*lines_of(small_table()), '{"sample_id": "c", "prompt": "p", "gpt-4": null}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    assert len(load_dataset(tmp_path / "x.jsonl", incomplete="drop")) == 3
