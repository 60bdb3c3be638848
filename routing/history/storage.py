"""Storage of related files in one folder: written atomically, listed in a manifest, checked when read."""

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
    """A folder does not match its manifest; the message names the fix."""


@dataclass(frozen=True)
class StoredFolder:
    """A folder's manifest; each file is checked when its path is requested.

    Parameters
    ----------
    place : Path
        The folder.
    facts : dict
        Facts that the writer recorded.
    files : dict
        The file's name on disk and its sha256, by the writer's name (such as `history.json.gz`).
    """

    place: Path
    facts: dict[str, Any]
    files: dict[str, dict[str, str]]

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def path(self, name: str) -> Path:
        """Return the path of a file after checking its digest.

        Raises
        ------
        FolderError
            The file is missing, or was changed after it was written.
        """
        entry = self.files[name]
        path = self.place / entry["file"]
        if not path.exists():
            raise FolderError(f"{path}: missing, though {MANIFEST} names it; save the folder again")
        digest = _digest(path)
        if digest != entry["sha256"]:
            raise FolderError(
                f"{path}: digest {digest[:16]}... is not {entry['sha256'][:16]}... of {MANIFEST}; "
                "the file was changed after it was saved: save the folder again"
            )
        return path


def save_folder(folder: str | Path, facts: Mapping[str, Any], writers: Mapping[str, Writer]) -> None:
    """Write files and then the manifest that names them; a reader sees the old folder or the new one.

    Names of files on disk have a part of their digest, so that new files never overwrite those of an old
    manifest. Old files are removed last. Files that no manifest names are kept.

    Parameters
    ----------
    folder : path
        Created if missing.
    facts : mapping
        Written to the manifest as JSON.
    writers : mapping
        Writers by the file's name, such as `history.json.gz`.
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
    current_files = {entry["file"] for entry in files.values()}
    for entry in before.values():
        if entry["file"] not in current_files:
            (place / entry["file"]).unlink(missing_ok=True)


def open_folder(folder: str | Path) -> StoredFolder:
    """Read a folder's manifest.

    Raises
    ------
    FileNotFoundError
        The folder has no manifest.
    FolderError
        The manifest is not one of this program.
    """
    place = Path(folder)
    path = place / MANIFEST
    if place.is_file():
        raise FileNotFoundError(f"{place}: a file, not the folder of a history; {how_to_fit(place)}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; {how_to_fit(place)}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return StoredFolder(place, manifest["facts"], manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise FolderError(
            f"{path}: not a manifest of this program ({error}); save the folder again"
        ) from None


def how_to_fit(place: Path) -> str:
    """Return advice on making a history's folder, for a `place` that is a data file or a wrong name."""
    if place.is_file():
        return (
            f"fit it with `python -m routing fit --dataset {place} --out FOLDER`, then name FOLDER "
            "(PORT_HISTORY)"
        )
    return (
        f"`python -m routing fit --dataset FILE --out {place}` makes it from a data set FILE; or correct the "
        "path (PORT_HISTORY)"
    )


def write_atomically(path: Path, write: Writer) -> None:
    """Write a temporary file, flush it to disk, then replace `path` with it.

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
        # mkstemp makes private files; saved files have the usual permissions.
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
