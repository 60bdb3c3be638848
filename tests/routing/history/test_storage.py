import pytest

from routing.fitting.saved_fit import fit_facts, load_fitted
from routing.history.storage import FolderError, open_folder, save_folder, write_atomically


def writer(data):
    return lambda file: file.write(data)


def failing(file):
    file.write(b"half")
    raise OSError("disk full")


def test_open_folder_returns_saved_files_and_facts(tmp_path):
    save_folder(tmp_path / "new", {"rows": 3}, {"a.bin": writer(b"one"), "b": writer(b"two")})
    stored = open_folder(tmp_path / "new")
    assert stored.facts == {"rows": 3}
    assert stored.path("a.bin").read_bytes() == b"one"
    assert stored.path("a.bin").suffix == ".bin"
    assert stored.path("b").read_bytes() == b"two"
    assert "c" not in stored


def test_save_folder_failed_writer_keeps_the_old_folder(tmp_path):
    save_folder(tmp_path, {"version": 1}, {"a": writer(b"one"), "b": writer(b"two")})
    with pytest.raises(OSError, match="disk full"):
        save_folder(tmp_path, {"version": 2}, {"a": writer(b"three"), "b": failing})
    stored = open_folder(tmp_path)
    assert stored.facts == {"version": 1}
    assert stored.path("a").read_bytes() == b"one"
    assert not list(tmp_path.glob(".saving-*"))


def test_write_atomically_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, writer(b"whole"))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, failing)
    assert path.read_bytes() == b"whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_open_folder_missing_or_changed_files_are_named(tmp_path):
    save_folder(tmp_path, {}, {"a": writer(b"one"), "b": writer(b"two")})
    stored = open_folder(tmp_path)
    next(tmp_path.glob("a-*")).write_bytes(b"two")
    next(tmp_path.glob("b-*")).unlink()
    with pytest.raises(FolderError, match=r"a-.*digest.*save the folder again"):
        stored.path("a")
    with pytest.raises(FolderError, match=r"b-.*missing"):
        stored.path("b")


def test_open_folder_foreign_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        open_folder(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(FolderError, match="not a manifest"):
        open_folder(tmp_path)


def test_open_folder_data_file_names_the_command_that_fits_it(tmp_path):
    data = tmp_path / "history.csv"
    data.write_text("sample_id,prompt\n")
    for read in (open_folder, fit_facts, load_fitted):
        with pytest.raises(FileNotFoundError) as error:
            read(data)
        assert f"`python -m routing fit --dataset {data} --out FOLDER`" in str(error.value)
        with pytest.raises(FileNotFoundError, match=r"`python -m routing fit --dataset FILE --out .*none`"):
            read(tmp_path / "none")
