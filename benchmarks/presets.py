"""Queries to measure presets: real prompts, raw or embedded, with a history fitted to each preset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson

from producers.evaluation.prepared_data import HISTORY, QUERIES
from producers.prepare import main as prepare
from routing.datasets.load import load_dataset
from routing.fitting.saved_fit import (
    load_fitted,
)
from streams.messages.query import encode_embedding

ROWS = (
    ("paper", "raw"),
    ("best", "raw"),
    ("fast", "raw"),
    ("static", "raw"),
    ("best", "embedded"),
    ("fast", "embedded"),
)
"""Preset, and how its queries come: raw prompts, or with the embedding of the preset's embedder."""


def fitted(dataset: str, embeddings: Path | None, preset: str, folder: Path, queries: int) -> Path:
    """Return a prepared folder with the history fitted to a preset; create it once."""
    out = folder / f"preset-{preset}"
    if not (out / QUERIES).exists():
        arguments = ["--dataset", dataset, "--preset", preset, "--out", str(out), "--queries", str(queries)]
        if embeddings is not None:
            arguments += ["--embeddings", str(embeddings)]
        if prepare(arguments):
            raise RuntimeError(f"{dataset} could not be prepared for preset {preset}")
    return out


def raw_messages(prepared: Path, count: int, prefix: str = "r", *, unique: bool = False) -> list[bytes]:
    """Return queries without embeddings; ids begin with the prefix.

    The prompts of the data set repeat. With `unique` each ends with its id, so that no cache knows it.
    """
    prompts = load_dataset(prepared / QUERIES).prompts
    ids = [f"{prefix}{i}" for i in range(count)]
    texts = [f"{prompts[i % len(prompts)]}{f' ({ids[i]})' if unique else ''}" for i in range(count)]
    return [orjson.dumps({"id": id_, "prompt": text}) for id_, text in zip(ids, texts, strict=True)]


def embedded_messages(prepared: Path, count: int) -> list[bytes]:
    """Return the same queries with embeddings from the embedder of the fit."""
    prompts = load_dataset(prepared / QUERIES).prompts
    embedder = load_fitted(history_of(prepared)).embedder
    used = list(prompts[: min(count, len(prompts))])
    vectors = np.vstack([embedder.embed(used[i : i + 64]).embeddings for i in range(0, len(used), 64)])
    carried = [encode_embedding(vector) for vector in vectors]
    return [
        orjson.dumps({"id": f"e{i}", "prompt": used[i % len(used)], "embedding": carried[i % len(used)]})
        for i in range(count)
    ]


def history_of(prepared: Path) -> Path:
    """Folder of the fit."""
    return prepared / HISTORY
