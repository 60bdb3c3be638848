"""`python -m routing history extend`: add answered queries with reported quality to a fitted history."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from routing.estimators.registry import fit_estimator
from routing.feedback.partial_rows import ResidualSlopes
from routing.fitting.presets import choose_preset
from routing.fitting.saved_fit import Fitted, fit_facts, load_fitted, save_fitted
from routing.history.history import EmbeddedHistory, History

log = structlog.get_logger()

EXTEND = "Add answered queries whose quality was reported to a fitted history, and fit it again."
BATCH = 256
TASK = "answered"
"""Task of the added rows."""


@dataclass(frozen=True)
class AnsweredQuery:
    """A query that one LLM answered.

    Parameters
    ----------
    id, prompt, model : str
    quality : float
        Reported, from 0 to 1.
    cost : float
        USD.
    """

    id: str
    prompt: str
    model: str
    quality: float
    cost: float


def add_extend(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `history extend`."""
    actions = commands.add_parser("history", help="grow a fitted history", description=__doc__)
    extending = actions.add_subparsers(dest="action", required=True).add_parser(
        "extend", help="add answered queries and fit again", description=EXTEND
    )
    extending.add_argument(
        "--history", required=True, type=Path, metavar="FOLDER", help="fitted by `python -m routing fit`"
    )
    extending.add_argument(
        "--answered",
        required=True,
        type=Path,
        metavar="JSONL",
        help="written by `python -m streams history export`",
    )
    extending.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="folder of the result")


def extend_history(options: argparse.Namespace) -> int:
    """Extend a history, save the new fit and return the exit status.

    Raises
    ------
    ValueError
        A line of the file is invalid, or no line can be added.
    OSError
        A file cannot be read or written.
    """
    begun = time.perf_counter()
    facts, (embedder, estimator, history) = fit_facts(options.history), load_fitted(options.history)
    known_ids = set(history.history.ids)
    answered: dict[str, AnsweredQuery] = {}
    skipped = 0
    for query in read_answered(options.answered):
        if query.model not in history.models or query.id in known_ids:
            skipped += 1
        else:
            answered[query.id] = query  # the last answer of a query counts
    if not answered:
        raise ValueError(
            f"--answered: {options.answered} has no answer of an LLM of the history on a new query "
            f"({skipped} lines were left out)"
        )
    fitted = Fitted(embedder, estimator, history)
    extended = extended_history(fitted, list(answered.values()))
    preset, _ = choose_preset(len(extended), facts.preset)
    refitted = Fitted(embedder, fit_estimator(extended, preset.estimator), extended)
    save_fitted(options.out, refitted, replace(facts, history=extended.digest()))
    log.info(
        "history_extended",
        folder=str(options.out),
        rows=len(extended),
        added=len(answered),
        left_out=skipped,
        seconds=round(time.perf_counter() - begun, 1),
    )
    return 0


def extended_history(fitted: Fitted, answered: list[AnsweredQuery]) -> EmbeddedHistory:
    """Return a history with rows for answered queries; see `routing.feedback.partial_rows`.

    Parameters
    ----------
    fitted : Fitted
        Its estimates fill in the qualities of the other LLMs, and their costs.
    answered : list of AnsweredQuery
        Queries that the history lacks, of its LLMs.
    """
    embedder, estimator, history = fitted
    rows = history.history
    slopes = ResidualSlopes.fit(rows.quality, estimator.leave_one_out())
    column = {name: number for number, name in enumerate(history.models)}
    quality, cost, vectors = [rows.quality], [rows.cost], [history.embeddings]
    for start in range(0, len(answered), BATCH):
        part = answered[start : start + BATCH]
        batch = embedder.embed([query.prompt for query in part])
        estimates = estimator.estimate(batch)
        model = np.array([column[query.model] for query in part])
        reported = np.array([query.quality for query in part])
        quality.append(slopes.filled(estimates.quality, model, reported))
        costs = estimates.cost.copy()
        costs[np.arange(len(part)), model] = [query.cost for query in part]
        cost.append(costs)
        vectors.append(batch.embeddings)
    prompts = [query.prompt for query in answered]
    longer = History(
        [*rows.ids, *(query.id for query in answered)],
        [*rows.prompts, *prompts],
        [*rows.tasks, *[TASK] * len(answered)],
        rows.models,
        np.vstack(quality),
        np.vstack(cost),
        None if rows.embed_texts is None else [*rows.embed_texts, *prompts],
    )
    return EmbeddedHistory(longer, np.vstack(vectors), history.embedder)


def read_answered(path: Path) -> Iterator[AnsweredQuery]:
    """Yield the answered queries of a file with one JSON object per line.

    Raises
    ------
    ValueError
        Names the line, the field and its value.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}: line {number}: is not JSON ({error})") from None
            yield _answered(fields, f"{path}: line {number}")


def _answered(fields: Any, where: str) -> AnsweredQuery:
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: is not an object; write id, prompt, model, quality and cost")
    for name in ("id", "prompt", "model"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise ValueError(f"{where}: {name}: {fields.get(name)!r:.60} must be a text")
    for name, upper_bound in (("quality", 1.0), ("cost", float("inf"))):
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= upper_bound:
            limit = " to 1" if upper_bound == 1 else " or more"
            raise ValueError(f"{where}: {name}: {value!r:.60} must be a number from 0{limit}")
    return AnsweredQuery(*(fields[name] for name in ("id", "prompt", "model", "quality", "cost")))
