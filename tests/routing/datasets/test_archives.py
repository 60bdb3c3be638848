"""Compressed data sets and pipes, and errors that name a broken file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
import zipfile

import pyarrow as pa
import pytest

from routing.datasets.load import load_dataset
from routing.history.rules import HistoryError
from tests.routing.datasets.tables_on_disk import digest_of, small_table


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def zipped(members):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


COMPRESSIONS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
    "zip": lambda data: zipped({"folder/": b"", "folder/t.csv": data}),
}


@pytest.fixture(params=["csv", "parquet", "pkl"])
def plain(request, tmp_path):
    table, path = small_table(), tmp_path / f"t.{request.param}"
    if request.param == "csv":
        table.to_csv(path, index=False)
    elif request.param == "parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_pickle(path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("named", [True, False])
def test_plain_file_detects_compression_by_content(tmp_path, plain, kind, named):
    path = tmp_path / (f"data.csv.{kind}" if named else "data.csv")
    path.write_bytes(COMPRESSIONS[kind](plain))
    assert load_dataset(path).digest() == digest_of(small_table())


def test_plain_file_with_a_compressed_name_is_read(tmp_path, plain):
    (tmp_path / "data.csv.gz").write_bytes(plain)
    assert load_dataset(tmp_path / "data.csv.gz").digest() == digest_of(small_table())


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.97])
def test_plain_file_truncated_archive_is_named(tmp_path, kind, part):
    csv = small_table(prompt=[os.urandom(4000).hex() for _ in range(3)]).to_csv(index=False).encode()
    data = COMPRESSIONS[kind](csv)
    path = tmp_path / f"trunc.csv.{kind}"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(HistoryError, match=rf"trunc\.csv\.{kind}: not readable as a table"):
        load_dataset(path)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_plain_file_damaged_archive_is_named(tmp_path, kind):
    csv = small_table(prompt=[os.urandom(4000).hex() for _ in range(3)]).to_csv(index=False).encode()
    data = bytearray(COMPRESSIONS[kind](csv))
    for place in range(len(data) // 2, len(data) // 2 + 40):
        data[place] ^= 0xFF
    path = tmp_path / f"damaged.csv.{kind}"
    path.write_bytes(data)
    with pytest.raises(HistoryError, match=r"damaged\.csv.*: not readable as a table"):
        load_dataset(path)


def test_plain_file_ignores_macos_members_of_a_zip_file(tmp_path):
    csv = small_table().to_csv(index=False)
    members = {"t.csv": csv, "__MACOSX/": "", "__MACOSX/._t.csv": "\0\5", ".DS_Store": "x", "._t.csv": "x"}
    (tmp_path / "mac.csv.zip").write_bytes(zipped(members))
    assert load_dataset(tmp_path / "mac.csv.zip").digest() == digest_of(small_table())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.csv": "x", "b.csv": "y"}, r"2 files \('a\.csv', 'b\.csv'\); unpack it"),
        ({}, "0 files"),
        ({"[Content_Types].xml": "x", "xl/workbook.xml": "y"}, "Excel workbook; save the sheet as CSV"),
    ],
)
def test_plain_file_zip_without_single_table_is_named(tmp_path, members, message):
    (tmp_path / "two.csv.zip").write_bytes(zipped(members))
    with pytest.raises(HistoryError, match=rf"two\.csv\.zip: .*{message}"):
        load_dataset(tmp_path / "two.csv.zip")


def test_plain_file_tar_archive_is_named(tmp_path):
    (tmp_path / "t.csv").write_text(small_table().to_csv(index=False))
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "t.csv", "t.csv")
    with pytest.raises(HistoryError, match=r"t\.tar\.gz: .*tar archive"):
        load_dataset(tmp_path / "t.tar.gz")


@pytest.mark.parametrize("broken", ["half", "wrong"])
def test_load_dataset_broken_parquet_file_is_named(tmp_path, broken):
    path = tmp_path / "t.parquet"
    small_table().to_parquet(path)
    data = bytearray(path.read_bytes())
    if broken == "half":
        data = data[: len(data) // 2]
    else:
        data[4:200] = bytes(196)
    path.write_bytes(data)
    with pytest.raises(HistoryError, match=r"t\.parquet: not readable as a table"):
        load_dataset(path)


@pytest.mark.parametrize("kind", ["plain", "gz"])
def test_plain_file_copies_a_pipe(tmp_path, plain, kind):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = plain if kind == "plain" else gzip.compress(plain)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    history = load_dataset(pipe)
    writer.join()
    assert history.digest() == digest_of(small_table())


def test_plain_file_error_names_the_original_file(tmp_path):
    csv = small_table().to_csv(index=False).replace("mmlu.1", "mmlu.0")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(csv.encode()))
    with pytest.raises(HistoryError) as error:
        load_dataset(tmp_path / "t.csv.gz")
    assert str(error.value).startswith(f"{tmp_path / 't.csv.gz'}: ids: 'mmlu.0' is a duplicate")


def test_plain_file_removes_its_copies(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(small_table().to_csv(index=False).encode()))
    load_dataset(tmp_path / "t.csv.gz")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"text,label\n"))
    with pytest.raises(HistoryError):
        load_dataset(tmp_path / "t.csv.gz")
    assert not list(folder.iterdir())
