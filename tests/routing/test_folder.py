import pytest

from routing.folder import FolderError, open_folder, save_folder, write_atomically


def writer(data):
    return lambda file: file.write(data)


def failing(file):
    file.write(b"half")
    raise OSError("disk full")


def test_what_is_saved_is_found_with_its_facts(tmp_path):
    save_folder(tmp_path / "new", {"rows": 3}, {"a.bin": writer(b"one"), "b": writer(b"two")})
    stored = open_folder(tmp_path / "new")
    assert stored.facts == {"rows": 3}
    assert stored.path("a.bin").read_bytes() == b"one"
    assert stored.path("a.bin").suffix == ".bin"
    assert stored.path("b").read_bytes() == b"two"
    assert "c" not in stored


def test_a_writer_that_fails_leaves_the_old_folder_whole(tmp_path):
    save_folder(tmp_path, {"version": 1}, {"a": writer(b"one"), "b": writer(b"two")})
    with pytest.raises(OSError, match="disk full"):
        save_folder(tmp_path, {"version": 2}, {"a": writer(b"three"), "b": failing})
    stored = open_folder(tmp_path)
    assert stored.facts == {"version": 1}
    assert stored.path("a").read_bytes() == b"one"
    assert not list(tmp_path.glob(".saving-*"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, writer(b"whole"))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, failing)
    assert path.read_bytes() == b"whole"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_files_that_are_missing_or_changed_are_named(tmp_path):
    save_folder(tmp_path, {}, {"a": writer(b"one"), "b": writer(b"two")})
    stored = open_folder(tmp_path)
    next(tmp_path.glob("a-*")).write_bytes(b"two")
    next(tmp_path.glob("b-*")).unlink()
    with pytest.raises(FolderError, match=r"a-.*digest.*save the folder again"):
        stored.path("a")
    with pytest.raises(FolderError, match=r"b-.*missing"):
        stored.path("b")


def test_a_folder_of_others_is_told_from_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        open_folder(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(FolderError, match="not a manifest"):
        open_folder(tmp_path)
