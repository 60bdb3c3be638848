"""Result files of the laboratory: rows of one experiment in JSON, gzipped where the name ends in `.gz`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from routing.history.storage import write_atomically

log = structlog.get_logger()

Row = dict[str, Any]

FIXED = ("experiment", "dataset", "rows", "models", "digest")
"""Fields of the config that every command writing to one file must agree on."""

PROVENANCE = ("vectors", "embedder", "table", "roberta")
"""Fields of the config that say what rows were computed from; a missing or empty field matches any value."""


class Results:
    """Rows of one experiment, written to a file after each row if a file is given.

    Parameters
    ----------
    out : path, optional
        JSON, {"config": ..., "rows": [...]}, gzipped if the name ends in ``.gz``. Existing rows are kept.
    config : dict
        Written beside the rows. The last command that writes to the file replaces it.
    key : sequence of str
        Fields that identify a row.
    fixed : sequence of str
        Fields of the config that must equal those of the file, in addition to `FIXED`.

    Raises
    ------
    ValueError
        The file holds another experiment, or rows of other embeddings.
    """

    def __init__(
        self, out: Path | None, config: dict[str, Any], key: Sequence[str], fixed: Sequence[str] = ()
    ) -> None:
        self._out, self._config, self._names = out, dict(config), tuple(key)
        self._rows: dict[str, Row] = {}
        if out is not None and out.exists():
            stored = read_results(out)
            self._rows = {self._key(row): row for row in stored["rows"]}
            self._config |= _merged_provenance(out, stored["config"], config, fixed, len(self._rows))
            if self._rows and "vectors" not in stored["config"]:
                # The embeddings of the stored rows are unknown: do not claim today's digest for them.
                self._config.pop("vectors", None)

    @property
    def rows(self) -> list[Row]:
        """All rows, those read from the file first."""
        return list(self._rows.values())

    def find(self, fields: Mapping[str, Any]) -> Row | None:
        """Return the row that has these key fields, or None."""
        return self._rows.get(self._key(fields))

    def add(self, row: Row) -> None:
        """Add a row, or replace the one with the same key, and write the file."""
        self._rows[self._key(row)] = row
        write_rows(self._out, self._config, self.rows)

    def _key(self, fields: Mapping[str, Any]) -> str:
        # Rows of earlier versions have no groups.
        return json.dumps([fields.get(name, "") for name in self._names])


def read_results(path: Path) -> dict[str, Any]:
    """Read a result file: {"config": ..., "rows": [...]}."""
    content = path.read_bytes()
    results: dict[str, Any] = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    return results


def write_rows(out: Path | None, config: dict[str, Any], rows: list[Row]) -> None:
    """Write a result file atomically; do nothing without a path."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"config": config, "rows": rows}, indent=1).encode()
    if out.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # equal rows give equal bytes
    write_atomically(out, lambda file: file.write(content))


def _merged_provenance(
    out: Path, stored: dict[str, Any], config: dict[str, Any], fixed: Sequence[str], rows: int
) -> dict[str, Any]:
    """Check the config against the file's and return the provenance that both give together."""
    for name in (*FIXED, *fixed):
        if stored.get(name) != config.get(name):
            raise ValueError(
                f"json: {out} holds another experiment ({name} {stored.get(name)!r}, not "
                f"{config.get(name)!r}); give another file, or remove it"
            )
    for name in PROVENANCE:
        if stored.get(name) and config.get(name) and stored[name] != config[name]:
            raise ValueError(
                f"json: {out} holds rows of other {name} ({stored[name]!r}, not {config[name]!r}); "
                "give another file, or remove it"
            )
    if rows and config.get("vectors") and not stored.get("vectors"):
        log.warning("rows_of_unknown_embeddings", file=str(out), rows=rows)
    return {name: config.get(name) or stored[name] for name in PROVENANCE if stored.get(name)}
