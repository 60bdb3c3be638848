"""Queries for the rows of presets: real prompts, raw, against a history fitted to each preset."""

from __future__ import annotations

from pathlib import Path

import orjson

from producers.prepare import main as prepare
from producers.prepared import HISTORY, QUERIES
from routing.datasets import load_dataset

PRESETS = ("paper", "best", "fast")


def fitted(dataset: str, embeddings: Path | None, preset: str, folder: Path, queries: int) -> Path:
    """A prepared folder with the history fitted to a preset; made once."""
    out = folder / f"preset-{preset}"
    if not (out / QUERIES).exists():
        arguments = ["--dataset", dataset, "--preset", preset, "--out", str(out), "--queries", str(queries)]
        if embeddings is not None:
            arguments += ["--embeddings", str(embeddings)]
        if prepare(arguments):
            raise RuntimeError(f"{dataset} could not be prepared for preset {preset}")
    return out


def raw_messages(prepared: Path, count: int) -> list[bytes]:
    """Queries without embeddings, the data set's prompts over and over."""
    prompts = load_dataset(prepared / QUERIES).prompts
    return [orjson.dumps({"id": f"r{i}", "prompt": prompts[i % len(prompts)]}) for i in range(count)]


def history_of(prepared: Path) -> Path:
    """Where the fit is."""
    return prepared / HISTORY
