"""Text tables of other programs, and errors that name the row and the fix."""

from __future__ import annotations

import pytest

from routing.datasets.load import load_dataset
from routing.history.rules import HistoryError
from tests.routing.datasets.tables_on_disk import digest_of, small_table

HEADER = "sample_id,prompt,eval_name,gpt-4,gpt-4|total_cost,mixtral,mixtral|total_cost"
ROWS = ["a,What is 1?,t,0.5,0.01,1,0.001", "b,What is 2?,t,1,0.02,0,0.002"]


def write(path, *lines, encoding="utf-8", end="\n"):
    path.write_bytes(end.join([*lines, ""]).encode(encoding))
    return path


def expect(history, prompts=("What is 1?", "What is 2?")):
    assert history.models == ("gpt-4", "mixtral")
    assert history.ids == ("a", "b")
    assert history.prompts == prompts
    assert history.tasks == ("t", "t")
    assert history.quality.tolist() == [[0.5, 1], [1, 0]]
    assert history.cost.tolist() == [[0.01, 0.001], [0.02, 0.002]]


@pytest.mark.parametrize("end", [",", ",,,", ", "])
def test_read_delimited_trailing_separator_in_each_row_keeps_columns(tmp_path, end):
    expect(load_dataset(write(tmp_path / "shift.csv", HEADER, *(row + end for row in ROWS))))


def test_read_delimited_trailing_separator_in_some_rows_keeps_columns(tmp_path):
    expect(load_dataset(write(tmp_path / "all.csv", HEADER + ",", *(row + "," for row in ROWS))))
    expect(load_dataset(write(tmp_path / "header.csv", HEADER + ",", *ROWS)))
    expect(load_dataset(write(tmp_path / "one.csv", HEADER, ROWS[0] + ",", ROWS[1])))


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
def test_read_layout_finds_the_separator_by_the_header(tmp_path, separator, name):
    table = small_table()
    table.to_csv(tmp_path / name, sep=separator, index=False)
    assert load_dataset(tmp_path / name).digest() == digest_of(table)


@pytest.mark.parametrize("separator", [":", " ", "^"])
def test_read_layout_unknown_separator_names_the_fix(tmp_path, separator):
    lines = [line.replace(",", separator) for line in (HEADER, *ROWS)]
    with pytest.raises(HistoryError, match=r"t\.csv: .*is not a column's name; separate.*by commas"):
        load_dataset(write(tmp_path / "t.csv", *lines))


def test_read_layout_unquoted_bars_in_names_are_joined(tmp_path):
    lines = [line.replace(",", "|") for line in (HEADER, *ROWS)]
    expect(load_dataset(write(tmp_path / "bars.csv", *lines)))


def test_read_layout_skips_the_separator_line_of_excel(tmp_path):
    lines = [line.replace(",", ";") for line in (HEADER, *ROWS)]
    expect(load_dataset(write(tmp_path / "excel.csv", "sep=;", *lines, end="\r\n")))


def test_read_delimited_strips_spaces_after_separators(tmp_path):
    lines = [line.replace(",", ", ") for line in (HEADER, *ROWS)]
    lines[1] = lines[1].replace("What is 1?", '"What, is 1?"')
    expect(load_dataset(write(tmp_path / "sp.csv", *lines)), ("What, is 1?", "What is 2?"))


def test_read_delimited_quoted_names_after_spaces_are_read(tmp_path):
    header = ", ".join(f'"{name}"' for name in HEADER.split(","))
    expect(load_dataset(write(tmp_path / "quoted.csv", header, *(row.replace(",", ", ") for row in ROWS))))


def test_read_delimited_keeps_spaces_of_prompts(tmp_path):
    rows = [row.replace("What", "  What") for row in ROWS]
    expect(load_dataset(write(tmp_path / "t.csv", HEADER, *rows)), ("  What is 1?", "  What is 2?"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_read_delimited_ignores_byte_order_marks(tmp_path, encoding):
    expect(load_dataset(write(tmp_path / "t.csv", HEADER, *ROWS, encoding=encoding)))


def test_read_delimited_ignores_pandas_row_numbers_and_blank_rows(tmp_path):
    table = small_table()
    table.to_csv(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", "a") as file:
        file.write("\n,,,,,,,\n  \n")
    assert load_dataset(tmp_path / "t.csv").digest() == digest_of(table)


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (HEADER.replace("mixtral", "gpt-4"), "'gpt-4'"),
        (HEADER.replace("eval_name", "prompt"), "'prompt'"),
        (HEADER.replace("eval_name", " prompt "), "'prompt'"),
    ],
)
def test_read_delimited_duplicate_column_is_named(tmp_path, header, named):
    with pytest.raises(HistoryError, match=rf"dup\.csv: column {named} is a duplicate.*rename or drop"):
        load_dataset(write(tmp_path / "dup.csv", header, *ROWS))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c,What, is 3?,t,1,0.02,0,0.002", r"row 4 has 8 values, the header has 7 names"),
        ("c,What is 3?,t,1", r"row 4 has 4 values, the header has 7 names"),
        ('c,"What is 3?,t,1,0.02,0,0.002', r"row 4.*close every double quote"),
        ('c,"What" is 3?,t,1,0.02,0,0.002', r"row 4.*double quote"),
        ("c,What is 3?,t,good,0.02,0,0.002", r"column 'gpt-4', row 4: 'good' is not a number"),
        ("c,What is 3?,t,1_0,0.02,0,0.002", r"column 'gpt-4', row 4: '1_0' is not a number"),
        ("c,What is 3?,t,1.5,0.02,0,0.002", r"quality: row 4 \(id 'c'\), LLM 'gpt-4': 1\.5"),
        ("a,What is 3?,t,1,0.02,0,0.002", r"ids: 'a' is a duplicate, at row 2 and row 4"),
        ("c,,t,1,0.02,0,0.002", r"column 'prompt', row 4 \(sample_id 'c'\): no value"),
    ],
)
def test_read_delimited_invalid_row_is_named_by_its_number(tmp_path, row, message):
    with pytest.raises(HistoryError, match=rf"t\.csv: .*{message}"):
        load_dataset(write(tmp_path / "t.csv", HEADER, *ROWS, row))


def test_read_delimited_row_after_line_breaks_names_its_line(tmp_path):
    rows = [ROWS[0].replace("What is 1?", '"What\nis\n1?"'), ROWS[1].replace("0.02", "much")]
    with pytest.raises(HistoryError, match=r"row 3 \(line 5\): 'much' is not a number"):
        load_dataset(write(tmp_path / "t.csv", HEADER, *rows))


def test_read_delimited_dropped_rows_keep_other_row_numbers(tmp_path):
    rows = [ROWS[0].replace("0.5", "NA"), ROWS[1].replace(",1,", ",1.5,")]
    with pytest.raises(HistoryError, match=r"quality: row 3 \(id 'b'\)"):
        load_dataset(write(tmp_path / "t.csv", HEADER, *rows), incomplete="drop")


def test_read_delimited_decimal_commas_name_the_fix(tmp_path):
    table = small_table()
    table.to_csv(tmp_path / "t.csv", sep=";", decimal=",", index=False)
    with pytest.raises(HistoryError, match=r"row 2: '0,5' is not a number.*decimals with a point"):
        load_dataset(tmp_path / "t.csv")


def test_read_delimited_invalid_utf_8_names_the_line(tmp_path):
    rows = [ROWS[0], ROWS[1].replace("What", "Où")]
    path = write(tmp_path / "t.csv", HEADER, *rows, encoding="latin-1")
    with pytest.raises(HistoryError, match=r"t\.csv: .*byte b'\\xf9' on line 3 is not UTF-8"):
        load_dataset(path)


def test_read_delimited_without_header_or_text_is_named(tmp_path):
    (tmp_path / "empty.csv").write_bytes(b"\n \n")
    with pytest.raises(HistoryError, match=r"empty\.csv: .*no header"):
        load_dataset(tmp_path / "empty.csv")
    (tmp_path / "bytes.csv").write_bytes(bytes(range(16)) * 10)
    with pytest.raises(HistoryError, match=r"bytes\.csv: .*neither text nor"):
        load_dataset(tmp_path / "bytes.csv")


def test_read_delimited_long_prompt_is_complete(tmp_path):
    table = small_table(prompt=["x" * 300_000, "y", "z"])
    table.to_csv(tmp_path / "t.csv", index=False)
    assert len(load_dataset(tmp_path / "t.csv").prompts[0]) == 300_000
