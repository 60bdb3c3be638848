"""Lines of input files: plain or gzip, UTF-8 or UTF-16, from a path, a pipe or standard input."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

STANDARD_INPUT = Path("-")
JSON_LINES = (".jsonl", ".ndjson", ".jsonlines", ".json")
GZIP = b"\x1f\x8b"
UNREADABLE = {
    re.compile(rb"PK\x03\x04"): "a ZIP archive",
    re.compile(rb"BZh[1-9]1AY&SY"): "compressed with bzip2",
    re.compile(rb"\xfd7zXZ\0"): "compressed with xz",
    re.compile(rb"\x28\xb5\x2f\xfd"): "compressed with Zstandard",
    re.compile(rb"PAR1\x15"): "a Parquet file",
}
"""Formats by the bytes that they begin with."""

ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by their byte order mark; the longer marks come first, because one begins with another."""


def has_json_lines(path: Path) -> bool:
    """Return whether a file's name says that its lines are JSON, in capitals or compressed too.

    Examples
    --------
    >>> has_json_lines(Path("a.JSONL")), has_json_lines(Path("a.ndjson.gz")), has_json_lines(Path("a.txt"))
    (True, True, False)
    """
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(JSON_LINES)


class InputFile:
    """Lines of a file, which can be read more than once.

    A pipe and standard input are copied to a temporary file first. A gzip file is decompressed, and UTF-16
    with a byte order mark is decoded.

    Parameters
    ----------
    path : Path
        `-` is standard input.

    Raises
    ------
    OSError
        The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._copy: IO[bytes] | None = None
        if path == STANDARD_INPUT:
            self._copy = _copy_to_disk(_standard_input())
        else:
            with open(path, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    self._copy = _copy_to_disk(file)
        self._stamp = self._read_stamp()

    @property
    def changed(self) -> bool:
        """True if the file has changed since it was opened; a copy cannot change."""
        return self._read_stamp() != self._stamp

    def is_file(self, path: Path) -> bool:
        """Return whether a path names this very file."""
        try:
            if self.path == STANDARD_INPUT:
                return os.path.samestat(os.fstat(0), path.stat())
            return self.path.samefile(path)
        except OSError:
            return False

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Read the lines that are not blank, in UTF-8 and stripped, with their numbers from 1.

        Raises
        ------
        ValueError
            The file is of another format, compressed data is damaged, or text is not in its encoding.
        """
        with ExitStack() as stack:
            file: IO[bytes] = self._copy or stack.enter_context(open(self.path, "rb"))
            file.seek(0)
            try:
                yield from self._numbered(self._decoded(file))
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{self.path}: compressed data is damaged ({error})") from None
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{self.path}: is not {error.encoding} at byte {error.start} ({error.reason}); "
                    "convert it to UTF-8"
                ) from None

    def _decoded(self, file: IO[bytes]) -> Iterator[bytes]:
        head = _beginning(file)
        if head.startswith(GZIP):
            file = cast(IO[bytes], gzip.open(file))  # noqa: SIM115 - the caller closes what it reads
            head = _beginning(file)
        for pattern, form in UNREADABLE.items():
            if pattern.match(head):
                raise ValueError(f"{self.path}: is {form}; give lines of text, plain or compressed with gzip")
        encoding = next((name for mark, name in ENCODINGS.items() if head.startswith(mark)), None)
        if encoding is None:
            yield from file
        else:
            text = io.TextIOWrapper(file, encoding, newline="\n")
            try:
                for line in text:
                    yield line.encode()
            finally:
                text.detach()

    def _numbered(self, lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
        for number, raw in enumerate(lines, 1):
            # concatenated files can have byte order marks in the middle
            line = raw.removeprefix(codecs.BOM_UTF8).strip()
            if b"\0" in line:
                raise ValueError(
                    f"{self.path}: line {number} has a zero byte and is not UTF-8 text; convert the file, "
                    "for example with `iconv -f utf-16 -t utf-8`"
                )
            if line:
                yield number, line

    def _read_stamp(self) -> tuple[int, int] | None:
        if self._copy is not None:
            return None
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns


def _standard_input() -> IO[bytes]:
    if sys.stdin is None:
        raise ValueError("standard input is closed; name a file")
    if isinstance(sys.stdin, io.StringIO):
        return io.BytesIO(sys.stdin.read().encode("utf-8", "surrogateescape"))
    return sys.stdin.buffer


def _copy_to_disk(file: IO[bytes]) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its owner
    shutil.copyfileobj(file, copy)
    return copy


def _beginning(file: IO[bytes]) -> bytes:
    head = file.read(16)
    file.seek(0)
    return head
