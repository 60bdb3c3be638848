"""Files of rows: every finished row stays, a command goes on where it stopped, and nothing is mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from routing.folder import write_atomically

log = structlog.get_logger()

Row = dict[str, Any]

FIXED = ("experiment", "dataset", "rows", "models", "digest")
"""What all rows of a file have in common, beside what a command names."""

MADE_BY = ("vectors", "embedder", "table", "roberta")
"""What rows were made by; where a file or the command does not say, it says nothing against the other."""


class Results:
    """The rows of one experiment, in a file where one is given.

    Parameters
    ----------
    out : path, optional
        JSON, {"config": ..., "rows": [...]}; rows that it has are kept.
    config : dict
        Written beside the rows; of all commands that wrote to a file the last one's.
    key : sequence of str
        Fields that tell rows apart.
    fixed : sequence of str
        Fields of the config that must be those of the file, beside `FIXED`.

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
            found = json.loads(out.read_text(encoding="utf-8"))
            self._rows = {self._key(row): row for row in found["rows"]}
            self._config |= _agreed(out, found["config"], config, fixed, len(self._rows))
            if self._rows and "vectors" not in found["config"]:
                # the digest of today's vectors would say something about rows of which nothing is known
                self._config.pop("vectors", None)

    @property
    def rows(self) -> list[Row]:
        """All rows, the file's first."""
        return list(self._rows.values())

    def find(self, fields: Mapping[str, Any]) -> Row | None:
        """The row with these fields, if it is there."""
        return self._rows.get(self._key(fields))

    def add(self, row: Row) -> None:
        """Keep a row, in the place of one with the same key, and write the file."""
        self._rows[self._key(row)] = row
        write_rows(self._out, self._config, self.rows)

    def _key(self, fields: Mapping[str, Any]) -> str:
        return json.dumps([fields[name] for name in self._names])


def write_rows(out: Path | None, config: dict[str, Any], rows: list[Row]) -> None:
    """Write the JSON that the commands promise: {"config": ..., "rows": [...]}."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"config": config, "rows": rows}, indent=1).encode()
    write_atomically(out, lambda file: file.write(text))


def _agreed(
    out: Path, found: dict[str, Any], config: dict[str, Any], fixed: Sequence[str], rows: int
) -> dict[str, Any]:
    """What file and command say together of what the rows were made by."""
    for name in (*FIXED, *fixed):
        if found.get(name) != config.get(name):
            raise ValueError(
                f"json: {out} holds another experiment ({name} {found.get(name)!r}, not "
                f"{config.get(name)!r}); give another file, or remove it"
            )
    for name in MADE_BY:
        if found.get(name) and config.get(name) and found[name] != config[name]:
            raise ValueError(
                f"json: {out} holds rows of other {name} ({found[name]!r}, not {config[name]!r}); "
                "give another file, or remove it"
            )
    if rows and config.get("vectors") and not found.get("vectors"):
        log.warning("rows_of_unknown_embeddings", file=str(out), rows=rows)
    return {name: config.get(name) or found[name] for name in MADE_BY if found.get(name)}
