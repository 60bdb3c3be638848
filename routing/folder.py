"""A folder of files that belong together: written whole, named in a manifest, checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MANIFEST = "manifest.json"

Writer = Callable[[BinaryIO], Any]


class FolderError(ValueError):
    """A folder does not hold what it says, and how to mend it."""


@dataclass(frozen=True)
class StoredFolder:
    """What a folder's manifest says; the files are checked as they are asked for.

    Parameters
    ----------
    place : Path
        The folder.
    facts : dict
        Whatever the writer wanted to be known of it.
    files : dict
        By the name that the writer gave (as `history.parquet`): the file's name on disk and its sha256.
    """

    place: Path
    facts: dict[str, Any]
    files: dict[str, dict[str, str]]

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def path(self, name: str) -> Path:
        """The path of a file, whose bytes are what was written.

        Raises
        ------
        FolderError
            The file is missing, or was changed after it was written.
        """
        entry = self.files[name]
        path = self.place / entry["file"]
        if not path.exists():
            raise FolderError(f"{path}: missing, though {MANIFEST} names it; save the folder again")
        found = _digest(path)
        if found != entry["sha256"]:
            raise FolderError(
                f"{path}: digest {found[:16]}... is not {entry['sha256'][:16]}... of {MANIFEST}; "
                "the file was changed after it was saved: save the folder again"
            )
        return path


def save_folder(folder: str | Path, facts: Mapping[str, Any], writers: Mapping[str, Writer]) -> None:
    """Write files and then the manifest that names them; a reader sees the old folder or the new, never half.

    Files on disk carry a part of their digest in their names, so that new ones never overwrite those an old
    manifest names; these are removed last. Files that no manifest names are left alone.

    Parameters
    ----------
    folder : path
        Made where missing.
    facts : mapping
        Goes into the manifest, as JSON.
    writers : mapping
        From a file's name, as `history.parquet`, to what writes it.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    before = open_folder(place).files if (place / MANIFEST).exists() else {}
    files = {}
    for name, write in writers.items():
        fresh = _write_beside(place, write)
        digest = _digest(fresh)
        stem, dot, suffix = name.partition(".")
        final = f"{stem}-{digest[:16]}{dot}{suffix}"
        os.replace(fresh, place / final)
        files[name] = {"file": final, "sha256": digest}
    text = json.dumps({"facts": dict(facts), "files": files}, indent=1, ensure_ascii=False).encode()
    write_atomically(place / MANIFEST, lambda file: file.write(text))
    kept = {entry["file"] for entry in files.values()}
    for entry in before.values():
        if entry["file"] not in kept:
            (place / entry["file"]).unlink(missing_ok=True)


def open_folder(folder: str | Path) -> StoredFolder:
    """Read a folder's manifest.

    Raises
    ------
    FileNotFoundError
        There is none.
    FolderError
        It is not a manifest of ours.
    """
    place = Path(folder)
    path = place / MANIFEST
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; name a folder that this program has saved")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return StoredFolder(place, manifest["facts"], manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise FolderError(
            f"{path}: not a manifest of this program ({error}); save the folder again"
        ) from None


def write_atomically(path: Path, write: Writer) -> None:
    """Write a file beside `path`, flush it to disk, then put it in the place of `path`.

    Raises
    ------
    OSError
        The disk is full, or the folder cannot be written. `path` is then as it was.
    """
    os.replace(_write_beside(path.parent, write), path)


def _write_beside(place: Path, write: Writer) -> Path:
    descriptor, temporary = tempfile.mkstemp(dir=place, prefix=".saving-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; what we save is as readable as what any program writes
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
    except BaseException:
        os.unlink(temporary)
        raise
    return Path(temporary)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
