"""Files of variables: every line is in force or reported with its number."""

from pathlib import Path

import pytest

from streams.config.env_files import format_variables, read_variables

ODD = [
    "it's here",
    'a "quoted" name',
    "two words",
    " edges ",
    "a#b",
    "a #b",
    "line\nbreak",
    "return\rhere",
    "C:\\x\\",
    "back\\slash'",
    "${HOME}",
    "$HOME",
    "`ls`",
    "é ü",
    "=",
    "",
    "\\n",
    "'",
    '"',
]


@pytest.mark.parametrize("value", ODD)
def test_read_variables_formatted_value_is_equal(value: str, tmp_path: Path):
    variables = {"PORT_A": value, "PORT_B": "after 'it'"}
    (tmp_path / "settings.env").write_text(format_variables(variables), encoding="utf-8", newline="")

    assert read_variables(tmp_path / "settings.env") == variables


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_read_variables_byte_order_mark_selects_the_encoding(encoding: str, tmp_path: Path):
    (tmp_path / "a.env").write_text("PORT_SEED=7\r\nPORT_PRESET='é'\r\n", encoding=encoding)

    assert read_variables(tmp_path / "a.env") == {"PORT_SEED": "7", "PORT_PRESET": "é"}


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("A=1\n\nB='it's here'\nC=2\n", "line 3: cannot be read; write NAME='value'"),
        ("A=1\n  \r\n# x\nB='open\n", "line 4: cannot be read"),
        ('A="it"s"\n', "line 1: cannot be read"),
        ("A=1\nB\nC=2\n", "line 2: has no value; write NAME=value"),
        ("A=1\n= 2\n", "line 2: cannot be read"),
        ("A B=1\n", "line 1: cannot be read"),
        ("# nothing\n", "has no variables"),
        ("", "has no variables"),
        ("A\0=\0", "zero byte"),
    ],
)
def test_read_variables_invalid_line_raises_with_its_number(text: str, reported: str, tmp_path: Path):
    (tmp_path / "a.env").write_text(text, newline="")

    with pytest.raises(ValueError, match=r"a\.env") as raised:
        read_variables(tmp_path / "a.env")
    assert reported in str(raised.value)


def test_read_variables_error_shows_no_secret(tmp_path: Path):
    (tmp_path / "a.env").write_text("PORT_SASL_PASSWORD='hunter'2'\n")

    with pytest.raises(ValueError, match="line 1") as raised:
        read_variables(tmp_path / "a.env")
    assert "hunter" not in str(raised.value)


def test_read_variables_invalid_bytes_raise_with_their_line(tmp_path: Path):
    (tmp_path / "a.env").write_bytes(b"A=1\nB=\xff\xe9\n")

    with pytest.raises(ValueError, match="line 2: is not utf-8 text; convert it to UTF-8"):
        read_variables(tmp_path / "a.env")


def test_read_variables_replaces_variables_outside_single_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOLDER", "/data")
    (tmp_path / "a.env").write_text(
        "export A=${FOLDER}/x\nB=\"${A}/y\"\nC='${A}'\nD=${NOTHING:-z}\nexport A\nE= # none\n"
    )

    assert read_variables(tmp_path / "a.env") == {
        "A": "/data/x",
        "B": "/data/x/y",
        "C": "${A}",
        "D": "z",
        "E": "",
    }
