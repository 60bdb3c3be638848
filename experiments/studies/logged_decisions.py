"""Off-line evaluation of policies on decisions that a router logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Row
from routing.arrays import FloatArray
from routing.feedback.off_policy import LoggedDecisions, doubly_robust, inverse_propensity

SUMMARY = "the value of policies, estimated from decisions that a router logged"


@dataclass(frozen=True, eq=False)
class DecisionLog:
    """Decisions with reported quality, with one column for each LLM that any of them names.

    Parameters
    ----------
    models : tuple of str, length M
    logged : LoggedDecisions
    quality, cost : ndarray of float64, shape [n, M]
        As estimated at the decision; 0 for LLMs that were not there.
    eligible : ndarray of bool, shape [n, M]
    """

    models: tuple[str, ...]
    logged: LoggedDecisions
    quality: FloatArray
    cost: FloatArray
    eligible: NDArray[np.bool_]


def read_decisions(path: Path) -> DecisionLog:
    """Read the file that `python -m streams decisions export` wrote.

    Raises
    ------
    ValueError
        A line is not such a record, or there is none; names the line.
    """
    records: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = orjson.loads(line)
            reported, model_column = float(record["reported"]), record["models"].index(record["model"])
            widths = {len(record[name]) for name in ("models", "quality", "cost", "eligible")}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"decisions: line {number} of {path} is not an exported decision ({error})"
            ) from None
        if widths != {len(record["models"])} or not 0 <= reported <= 1 or model_column < 0:
            raise ValueError(f"decisions: line {number} of {path} is not an exported decision")
        records.append(record)
    if not records:
        raise ValueError(f"decisions: {path} has no decision")
    models = tuple(dict.fromkeys(name for record in records for name in record["models"]))
    column_of = {name: column for column, name in enumerate(models)}
    shape = len(records), len(models)
    quality, cost, eligible = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    for row, record in enumerate(records):
        columns = [column_of[name] for name in record["models"]]
        quality[row, columns], cost[row, columns] = record["quality"], record["cost"]
        eligible[row, columns] = record["eligible"]
    logged = LoggedDecisions(
        np.array([column_of[record["model"]] for record in records]),
        np.array([record["probability"] for record in records], dtype=np.float64),
        np.array([record["reported"] for record in records], dtype=np.float64),
    )
    return DecisionLog(models, logged, quality, cost, eligible)


def evaluate_log(log: DecisionLog, prices: Sequence[float]) -> list[Row]:
    """Return estimated mean quality of policies on logged decisions.

    The policies are the highest quality less price times cost among the eligible LLMs, and each LLM alone.

    Parameters
    ----------
    log : DecisionLog
    prices : sequence of float
        Quality per USD.
    """
    targets = {f"price {price:g}": _best(log, price) for price in prices}
    for column, name in enumerate(log.models):
        alone = np.zeros_like(log.quality)
        alone[:, column] = log.eligible[:, column]
        targets[name] = alone
    return [_row(log, name, target) for name, target in targets.items()]


def _best(log: DecisionLog, price: float) -> FloatArray:
    score = np.where(log.eligible, log.quality - price * log.cost, -np.inf)
    target = np.zeros_like(log.quality)
    rows = np.flatnonzero(log.eligible.any(1))
    target[rows, score[rows].argmax(1)] = 1.0
    return target


def _row(log: DecisionLog, name: str, target: FloatArray) -> Row:
    logged = log.logged
    weighted, robust = inverse_propensity(logged, target), doubly_robust(logged, target, log.quality)
    rows = np.arange(len(logged.choice))
    weights = target[rows, logged.choice] / logged.probability
    return {
        "policy": name,
        "decisions": len(rows),
        "logged": float(logged.quality.mean()),
        "mean_weight": float(weights.mean()),
        "estimated_only": float((target * log.quality).sum(1).mean()),
        "cost": float((target * log.cost).sum(1).mean()),
        "inverse_propensity": weighted.mean,
        "inverse_propensity_error": weighted.error,
        "doubly_robust": robust.mean,
        "doubly_robust_error": robust.error,
    }


HEAD = ("policy", "mean weight", "USD a query", "by the estimates", "inverse propensity", "doubly robust")


def _cells(row: Row) -> Cells:
    return [
        str(row["policy"]),
        f"{row['mean_weight']:.2f}",
        f"{row['cost']:.3g}",
        f"{row['estimated_only']:.3f}",
        *(
            f"{row[name]:.3f} ± {row[f'{name}_error']:.3f}"
            for name in ("inverse_propensity", "doubly_robust")
        ),
    ]


def print_rows(rows: list[Row], title: str) -> None:
    """Print the table on the terminal; errors are standard errors."""
    print_cells(HEAD, [_cells(row) for row in rows], title)


def markdown(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    return markdown_cells(HEAD, [_cells(row) for row in rows])
