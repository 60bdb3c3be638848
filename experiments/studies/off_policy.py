"""Off-line evaluation of a policy on logged decisions of another one, against its true value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.policies.port import Port
from experiments.policies.registry import Context, make_policy
from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Row, write_rows
from experiments.runs.runner import ExperimentData, ExperimentPoint
from routing.arrays import FloatArray, IntArray
from routing.estimators.base import Estimates
from routing.feedback.off_policy import LoggedDecisions, doubly_robust, inverse_propensity
from routing.progress import tracked

SUMMARY = "the value of a policy, estimated from decisions of another one that explores"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command, except those that name the data."""
    parser.add_argument(
        "--logged", default="port:k=5", metavar="POLICY", help="estimates of the logged policy [%(default)s]"
    )
    parser.add_argument(
        "--evaluated", default="port-best", metavar="POLICY", help="estimates of the other [%(default)s]"
    )
    parser.add_argument(
        "--explored", type=float, default=0.2, help="share of logged queries to a random LLM [%(default)s]"
    )
    parser.add_argument(
        "--price", type=float, default=100.0, help="quality per USD, of all LLMs [%(default)s]"
    )


def run(
    options: argparse.Namespace, experiment: ExperimentData, config: dict[str, Any], seeds: Sequence[int]
) -> list[Row]:
    """Log decisions with the first policy's estimates, and evaluate the second's, on every seed."""
    if not 0 < options.explored <= 1:
        raise ValueError(f"explored: {options.explored} must be above 0 and at most 1")
    rows: list[Row] = []
    for seed in tracked(list(seeds), "off-policy", "seeds"):
        split = experiment.split(ExperimentPoint(x=seed, queries=options.queries, policies=()), seed)
        estimates = []
        for name in (options.logged, options.evaluated):
            policy = make_policy(name, Context(len(split.past)))
            if not isinstance(policy, Port):
                raise ValueError(f"{name!r} makes no estimates; give one of the port policies")
            estimates.append(split.estimates(policy.source)[0])
        quality = split.data.quality[split.test]
        row = evaluate(quality, estimates[0], estimates[1], options.price, options.explored, seed)
        rows.append({"seed": seed, **row})
        write_rows(options.json, config, rows)
    return rows


def evaluate(
    quality: FloatArray, first: Estimates, second: Estimates, price: float, explored: float, seed: int
) -> Row:
    """Return true and estimated mean quality of the second policy.

    Parameters
    ----------
    quality : ndarray of float64, shape [n, M]
        True.
    first, second : Estimates
        Of the logged and of the evaluated policy, [n, M].
    price : float
        Quality per USD.
    explored : float
        Share of the logged queries that go to a random LLM.
    seed : int
        Of the random choices.
    """
    n, models = quality.shape
    random, rows = np.random.default_rng(seed), np.arange(n)
    own = _best(first, price)
    choice = np.where(random.random(n) < explored, random.integers(models, size=n), own)
    probability = explored / models + (1 - explored) * (choice == own)
    logged = LoggedDecisions(choice, probability, quality[rows, choice])
    target = np.zeros((n, models))
    target[rows, _best(second, price)] = 1.0
    weighted = inverse_propensity(logged, target)
    robust = doubly_robust(logged, target, second.quality)
    return {
        "logged": float(logged.quality.mean()),
        "true": float((target * quality).sum(1).mean()),
        "estimated_only": float((target * second.quality).sum(1).mean()),
        "inverse_propensity": weighted.mean,
        "inverse_propensity_error": weighted.error,
        "doubly_robust": robust.mean,
        "doubly_robust_error": robust.error,
    }


def _best(estimates: Estimates, price: float) -> IntArray:
    best: IntArray = (estimates.quality - price * estimates.cost).argmax(1)
    return best


HEAD = ("seed", "logged policy", "other policy: true", "by its own estimates", "inverse propensity",
        "doubly robust")  # fmt: skip


def _cells(row: Row) -> Cells:
    return [
        str(row["seed"]),
        *(f"{row[name]:.3f}" for name in ("logged", "true", "estimated_only")),
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
