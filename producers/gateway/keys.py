"""API keys: the file that maps each key to a caller's name and metadata."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import yaml

from producers.gateway.api_errors import ApiError

DIGEST = "sha256:"
DIGEST_CHARACTERS = 64

log = structlog.get_logger(__name__)


class KeysFileError(ValueError):
    """An invalid file of keys; the message names the entry and the fix."""


@dataclass(frozen=True)
class Caller:
    """The owner of a key.

    Parameters
    ----------
    name : str
        Owner of responses, files and batches; the team if there is one.
    metadata : dict of str to str
        Added to the metadata of every query, so that budgets can group by it.
    """

    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


ANYONE = Caller()
"""The caller of a gateway without a file of keys."""


class ApiKeys:
    """The keys of a file, which is read again when it changes.

    Parameters
    ----------
    path : Path, optional
        YAML: `keys` maps each key, or "sha256:" and its digest, to a team or to an object of metadata.
        Without a file every key is accepted, and none is needed.

    Raises
    ------
    KeysFileError
        The file is invalid.
    OSError
        The file cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._callers: dict[bytes, Caller] = {}
        if path is not None:
            self._stamp = _stamp(path)
            self._callers = read_keys(path)

    def caller(self, authorization: str | None) -> Caller:
        """Return the owner of the key in a request's header `Authorization`.

        Raises
        ------
        ApiError
            Status 401: the key is missing or unknown.
        """
        if self._path is None:
            return ANYONE
        self._refresh(self._path)
        scheme, _, key = (authorization or "").partition(" ")
        digest = hashlib.sha256(key.strip().encode()).digest()
        owner = None
        if scheme.lower() == "bearer" and key.strip():
            # compared by digests, so that the time of a comparison reveals nothing about a key
            owner = next(
                (caller for known, caller in self._callers.items() if hmac.compare_digest(known, digest)),
                None,
            )
        if owner is None:
            raise ApiError(
                401,
                "The API key is missing or unknown; send it as `Authorization: Bearer KEY`.",
                code="invalid_api_key",
            )
        return owner

    def _refresh(self, path: Path) -> None:
        """Read a changed file; keep the former keys while it is invalid."""
        try:
            stamp = _stamp(path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._callers = read_keys(path)
            log.info("api_keys_read", keys=len(self._callers))
        except (OSError, KeysFileError) as error:
            log.error(
                "api_keys_invalid", reason=str(error), fix="correct the file; the former keys stay valid"
            )


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def read_keys(path: Path) -> dict[bytes, Caller]:
    """Return the callers of a file by the digest of their keys.

    Raises
    ------
    KeysFileError
        The file is invalid.
    OSError
        The file cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KeysFileError(f"{path}: is not YAML ({error})") from None
    keys = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(keys, dict) or not keys:
        raise KeysFileError(
            f"{path}: keys: must map each API key to a team; write `keys: {{API-KEY: search}}`"
        )
    callers: dict[bytes, Caller] = {}
    for number, (key, owner) in enumerate(keys.items(), 1):
        where = f"{path}: keys: entry {number}"  # not the key, which is a secret
        digest = _digest(key, where)
        if digest in callers:
            raise KeysFileError(f"{where}: is a duplicate; remove one")
        callers[digest] = _caller(owner, where)
    return callers


def _digest(key: object, where: str) -> bytes:
    if not isinstance(key, str) or not key.strip():
        raise KeysFileError(f"{where}: the key must be a text; write it in quotes")
    if not key.startswith(DIGEST):
        return hashlib.sha256(key.strip().encode()).digest()
    text = key.removeprefix(DIGEST)
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) * 2 != DIGEST_CHARACTERS:
        raise KeysFileError(f"{where}: {DIGEST} must be followed by {DIGEST_CHARACTERS} hexadecimal digits")
    return digest


def _caller(owner: Any, where: str) -> Caller:
    metadata = {"team": owner} if isinstance(owner, str) else owner
    valid = (
        isinstance(metadata, dict)
        and metadata
        and all(
            isinstance(name, str) and isinstance(value, str) and value for name, value in metadata.items()
        )
    )
    if not valid:
        raise KeysFileError(f"{where}: must be a team, or an object of texts such as {{team: search}}")
    name = metadata.get("team") or next(iter(metadata.values()))
    return Caller(name, metadata)
