"""Compressed files and pipes: a data set is copied to a plain file, which can be read twice."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from routing.history.rules import HistoryError, named

_GZIP, _BZIP2, _XZ, _ZSTD, _ZIP = "gzip", "bzip2", "xz", "zstd", "zip"

_MAGIC = {
    _GZIP: (b"\x1f\x8b",),
    _BZIP2: (b"BZh",),
    _XZ: (b"\xfd7zXZ\x00",),
    _ZSTD: (b"\x28\xb5\x2f\xfd",),
    _ZIP: (b"PK\x03\x04", b"PK\x05\x06"),
}
_BZIP2_BLOCK = (b"1AY&SY", b"\x17rE8P\x90")  # a block, or the end of an empty file, after the level
_UNREADABLE = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
}
_TAR_PLACE, _TAR = 257, b"ustar"
_DEPTH = 4  # archives in archives

_Reader = Callable[[Path], Any]


@contextmanager
def plain_file(path: str | Path) -> Iterator[Path]:
    """Yield a plain file with the content of `path`, which may be compressed or a pipe.

    The file's first bytes decide the kind of compression, not its name. gzip, bzip2, xz, zstd and zip files
    and pipes are copied to a temporary file; plain files and folders are yielded as they are. Errors that
    name the copy are raised again with the name of the file.

    Raises
    ------
    HistoryError
        The file is cut off or damaged, or is an archive of several files.
    """
    source = Path(path)
    if source.is_dir() or (source.is_file() and _compression(source) is None):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="port-dataset-") as folder:
        copy = _decompress(source, Path(folder))
        try:
            yield copy
        except HistoryError as error:
            raise HistoryError(str(error).replace(str(copy), str(path))) from None


def _decompress(source: Path, folder: Path) -> Path:
    copy = source
    if not source.is_file():
        copy = _write(folder / "0", source, io.FileIO)
    for depth in range(_DEPTH):
        kind = _compression(copy, source)
        if kind is None:
            break
        target = folder / str(depth + 1)
        try:
            fresh = _unzip(target, copy) if kind == _ZIP else _write(target, copy, _READERS[kind])
        except (
            EOFError,
            zlib.error,
            lzma.LZMAError,
            zipfile.BadZipFile,
            pa.ArrowException,
            NotImplementedError,
            RuntimeError,
            OSError,
        ) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's or the system's error, not the archive's
            raise HistoryError(
                f"{source}: not readable as a table: the {kind} archive is cut off, damaged or encrypted "
                f"({error}); fetch it again"
            ) from None
        except HistoryError as error:
            raise HistoryError(f"{source}: {error}") from None
        if copy != source:
            copy.unlink()
        copy = fresh
    final = folder / source.name
    copy.rename(final)
    return final


def _compression(file: Path, name: Path | None = None) -> str | None:
    with open(file, "rb") as opened:
        start = opened.read(_TAR_PLACE + len(_TAR))
    content = next((content for magic, content in _UNREADABLE.items() if start.startswith(magic)), None)
    if start[_TAR_PLACE:] == _TAR:
        content = "a tar archive"
    if content is not None:
        raise HistoryError(
            f"{name or file}: not readable as a table: this is {content}; give the table in it as a file, "
            "as CSV, JSON Lines or parquet"
        )
    for kind, magics in _MAGIC.items():
        if start.startswith(magics):
            return None if kind == _BZIP2 and start[4:10] not in _BZIP2_BLOCK else kind
    return None


def _write(target: Path, source: Path, opened: _Reader) -> Path:
    with opened(source) as reader, open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
    return target


def _unzip(target: Path, source: Path) -> Path:
    with zipfile.ZipFile(source) as archive:
        names = archive.namelist()
        if "[Content_Types].xml" in names:
            raise HistoryError(
                "not readable as a table: this is an office document, such as an Excel workbook; "
                "save the sheet as CSV"
            )
        tables = [name for name in names if not _is_clutter(name)]
        if len(tables) != 1:
            raise HistoryError(
                f"not readable as a table: the zip archive has {len(tables)} files"
                + (f" ({named(tables)})" if tables else "")
                + "; unpack it and give one of them"
            )
        with archive.open(tables[0]) as reader, open(target, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
    return target


def _is_clutter(name: str) -> bool:
    """Return whether a member of a zip file is a folder or a file that macOS or Windows adds."""
    parts = name.split("/")
    return (
        not parts[-1]
        or "__MACOSX" in parts
        or parts[-1].startswith("._")
        or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")
    )


def _open_zstd(file: Path) -> Any:
    return pa.CompressedInputStream(pa.OSFile(str(file), "rb"), "zstd")


_READERS: dict[str, _Reader] = {
    _GZIP: gzip.GzipFile,
    _BZIP2: bz2.BZ2File,
    _XZ: lzma.LZMAFile,
    _ZSTD: _open_zstd,
}
