"""Which format a data set is in: told by what is in the file, not by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from routing.datasets.open_llm import QUESTIONS, correctness_columns, load_open_llm
from routing.datasets.routerbench import load_routerbench
from routing.datasets.sprout import llm_columns, load_sprout
from routing.datasets.tables import read_schema
from routing.datasets.tabular import Incomplete, load_tabular
from routing.folder import MANIFEST
from routing.history import EmbeddedHistory, History
from routing.history_rules import COST_SUFFIX, HistoryError, named


def load_dataset(
    path: str | Path,
    incomplete: Incomplete = "refuse",
    prices: Mapping[str, tuple[float, float]] | None = None,
) -> History:
    """Load a data set of answered queries, whatever its format.

    Known are RouterBench's pickle; parquet, CSV and Arrow in RouterBench's columns; SPROUT; the Open LLM
    Leaderboard v2 in CARROT's form; and the folder of a saved history.

    Parameters
    ----------
    path : path
        A file, or a folder of a data set's files.
    incomplete : {"refuse", "drop"}
        Whether a row without a value for some LLM is an error or left out.
    prices : mapping from LLM to (input, output), optional
        USD per million tokens, for formats that hold no costs; list prices of their time where not given.

    Raises
    ------
    FileNotFoundError
        There is nothing at `path`.
    HistoryError
        The format is unknown, or the data is wrong in it; the message names what, where and the fix.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"{place}: no such data set; give a file or a folder")
    if place.is_dir():
        if (place / MANIFEST).exists():
            return EmbeddedHistory.load(place).history
        if (place / QUESTIONS).exists():
            return load_open_llm(place, prices)
    elif _is_pickle(place):
        return load_routerbench(place, incomplete)
    schema = read_schema(place)
    if any(name.endswith(COST_SUFFIX) for name in schema.names):
        return load_tabular(place, incomplete)
    if llm_columns(schema):
        return load_sprout(place, prices, incomplete)
    if _is_open_llm(schema, prices):
        return load_open_llm(place, prices)
    raise HistoryError(
        f"{place}: format unknown; there are the columns {named(schema.names)}. Give each LLM a column <llm> "
        f"with its quality in [0, 1] and <llm>{COST_SUFFIX} with its cost in USD, beside sample_id and prompt"
    )


def _is_open_llm(schema: pa.Schema, prices: Mapping[str, tuple[float, float]] | None) -> bool:
    return "prompt" in schema.names and bool(correctness_columns(schema, prices))


def _is_pickle(file: Path) -> bool:
    with open(file, "rb") as opened:
        start = opened.read(2)
    return start[:1] == b"\x80" and start[1:] <= b"\x05"
