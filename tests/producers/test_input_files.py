"""Input files: compressed, piped or with a byte order mark, they have the same lines."""

import bz2
import gzip
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from producers.input_files import STANDARD_INPUT, InputFile, has_json_lines

TEXT = "Why?\n\n  Hów? \r\nlast"
LINES = [(1, "Why?"), (3, "Hów?"), (4, "last")]


def lines(file: InputFile) -> list[tuple[int, str]]:
    return [(number, line.decode()) for number, line in file.lines()]


@pytest.fixture
def pipe(tmp_path: Path) -> Callable[[bytes], Path]:
    """A named pipe that gives its bytes once."""

    def start(content: bytes) -> Path:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()
        return path

    return start


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("compressed", [False, True])
def test_input_file_byte_order_mark_selects_the_encoding(encoding: str, compressed: bool, tmp_path: Path):
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    content = (mark + TEXT).encode(encoding)
    (tmp_path / "a.txt").write_bytes(gzip.compress(content, mtime=0) if compressed else content)
    file = InputFile(tmp_path / "a.txt")

    assert lines(file) == lines(file) == LINES


def test_input_file_pipe_can_be_read_twice(pipe: Callable[[bytes], Path]):
    file = InputFile(pipe(gzip.compress(TEXT.encode(), mtime=0)))

    assert lines(file) == lines(file) == LINES
    assert not file.changed


def test_input_file_standard_input_can_be_read_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
    file = InputFile(STANDARD_INPUT)

    assert lines(file) == lines(file) == LINES

    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match="standard input is closed"):
        InputFile(STANDARD_INPUT)


def test_input_file_concatenated_marks_are_removed(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")

    assert lines(InputFile(tmp_path / "a.txt")) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (gzip.compress(TEXT.encode() * 99, mtime=0)[:-9], "compressed data is damaged"),
        (gzip.compress(b"x", mtime=0)[:-4] + b"abcd", "compressed data is damaged"),
        (b"\xff\xfea\x00b", "is not utf-16"),
        ("Why?\n".encode("utf-16-le"), "line 1 has a zero byte .*iconv"),
        (b"PK\x03\x04 and so on", "is a ZIP archive; give lines of text"),
        (bz2.compress(b"x"), "is compressed with bzip2"),
    ],
)
def test_input_file_unreadable_content_is_reported(content: bytes, reported: str, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(content)

    with pytest.raises(ValueError, match=f"a.txt: {reported}"):
        lines(InputFile(tmp_path / "a.txt"))


def test_input_file_edited_has_changed(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x")
    file = InputFile(tmp_path / "a.txt")
    assert not file.changed

    (tmp_path / "a.txt").write_text("xy")

    assert file.changed


def test_input_file_other_name_is_the_same_file(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    file = InputFile(tmp_path / "a.txt")

    assert file.is_file(tmp_path / "b.txt")
    assert not file.is_file(tmp_path / "c.txt")


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "a.ndjson", "a.NDJson.gz", "a.jsonl.GZ", "a.json"])
def test_has_json_lines_suffixes_are_recognised(name: str):
    assert has_json_lines(Path(name))
    assert not has_json_lines(Path(name).with_suffix(".txt"))
