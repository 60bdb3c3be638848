"""The sub-commands: load the data, run a study, write the result file, print the table, draw the plot."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.reports.plots import draw
from experiments.reports.tables import markdown, print_table
from experiments.runs.results import Results, Row, read_results, write_rows
from experiments.runs.runner import POINT, ExperimentData, ExperimentPoint, run_all
from experiments.runs.validation import runnable
from experiments.studies import (
    history_growth,
    logged_decisions,
    off_policy,
    paretobandit,
    paretobandit_phases,
    partitions,
    quality_change,
    reserve,
    rounding,
)
from experiments.studies.definitions import STUDIES
from experiments.studies.equal_spend import at_equal_spend
from routing.datasets.load import load_dataset
from routing.datasets.split import split_rows
from routing.embedding.embedder import load_embedder
from routing.embedding.unit_vectors import as_stored
from routing.history.history import History
from routing.progress import Progress, tracked

EQUAL = "every policy at the budget factor at which it spends as much as the others"
EQUAL_POLICIES = (
    "random",
    "greedy-cost",
    "batchsplit",
    "port-published",
    "port",
    "port-fast",
    "port-best",
    "best-single",
    "cheapest",
)
TABLE = "print saved results as the Markdown tables of docs/results.md"
PLOT = "draw saved results over the budget, as the plots of docs/results.md"
TRAIN = "fine-tune RoBERTa on the history of each seed: quality (multi-label) and cost (regression)"

TABLES: dict[str, Callable[[list[Row]], str]] = {
    "partitions": partitions.markdown,
    "logged-decisions": logged_decisions.markdown,
    "paretobandit": paretobandit.markdown,
    "paretobandit-phases": paretobandit_phases.markdown,
    "last-bits": rounding.markdown,
    "history-growth": history_growth.markdown,
    "off-policy": off_policy.markdown,
    "quality-change": quality_change.markdown,
    "reserve": reserve.markdown,
}
"""Tables in Markdown of the studies that have one of their own, by name."""

_MAX_DIGESTED_BYTES = 1 << 26
"""Larger files, such as weights, enter a folder's digest by their size only."""


def run_study(options: argparse.Namespace) -> int:
    """Run one of the studies."""
    study = STUDIES[options.experiment]
    experiment = _load_experiment(options)
    policies = tuple(options.policies.split(",")) if options.policies else study.policies
    values = tuple(options.values.split(",")) if options.values else None
    seeds = seeds_of(options.seeds)
    points = runnable(
        experiment,
        study.points(replace(_base(options), policies=policies), values),
        seeds,
        points_given=values is not None,
        policies_given=options.policies is not None or (study.varies_policies and values is not None),
    )
    rows = run_all(experiment, points, seeds, _config(options, experiment), options.json)
    title = f"{options.dataset.stem}: {study.summary}"
    print_table(rows, title, study.axis, study.plot)
    if options.plot:
        draw(rows, study.plot, study.axis, title, options.plot)
    return 0


def run_equal_spend(options: argparse.Namespace) -> int:
    """Tune every policy's budget factor until all spend alike."""
    experiment = _load_experiment(options)
    policies = tuple(options.policies.split(",")) if options.policies else EQUAL_POLICIES
    seeds = seeds_of(options.seeds)
    point = replace(_base(options), policies=policies)
    (point,) = runnable(
        experiment, [point], seeds, points_given=True, policies_given=options.policies is not None
    )
    key = ("policy", "seed", *(name for name in POINT if name != "factor"))
    results = Results(options.json, _config(options, experiment), key, fixed=("tolerance",))
    rows: list[Row] = []
    for seed in seeds:
        for name in tracked(point.policies, f"equal spend, seed {seed}", "policies"):
            row = results.find({"policy": name, "seed": seed, **asdict(point)})
            # rows without "tries" are of an earlier search that gave up sooner
            if row is None or not (row["reached"] or "tries" in row):
                row = at_equal_spend(experiment, point, seed, name, options.tolerance)
                results.add(row)
            rows.append(row)
    title = f"{options.dataset.stem}: equal spend"
    print_table(rows, title)
    if options.plot:
        draw(rows, "bars", "policy", title, options.plot, measure="performance")
    return 0


def run_table(options: argparse.Namespace) -> int:
    """Print saved results as Markdown."""
    for path in options.json:
        results = read_results(path)
        print(_table(results["config"]["experiment"], results["rows"]) + "\n")
    return 0


def _table(name: str, rows: list[Row]) -> str:
    if name in TABLES:
        return TABLES[name](rows)
    study = STUDIES.get(name)
    return markdown(rows, study.axis, study.plot) if study else markdown(rows)


def run_plot(options: argparse.Namespace) -> int:
    """Draw saved results."""
    results = read_results(options.json)
    name, rows = results["config"]["experiment"], results["rows"]
    axis = "budget factor"
    if name == "paretobandit":
        rows, axis = paretobandit.curves(rows), paretobandit.AXIS
    title = options.title or f"{Path(results['config']['dataset']).stem}: {name}"
    draw(rows, options.kind, axis, title, options.stem, measure=options.measure)
    return 0


class SeedStudy(Protocol):
    """A module of `experiments.studies` that runs every seed on one data set."""

    SUMMARY: str

    def run(
        self,
        options: argparse.Namespace,
        experiment: ExperimentData,
        config: dict[str, Any],
        seeds: Sequence[int],
    ) -> list[Row]:
        """Run every seed, and save the rows."""
        ...

    def print_rows(self, rows: list[Row], title: str) -> None:
        """Print the table on the terminal."""
        ...


def _run_seeds(options: argparse.Namespace, study: SeedStudy) -> list[Row]:
    """Load the data, run a study, print its table and return its rows."""
    experiment = _load_experiment(options)
    rows = study.run(options, experiment, _config(options, experiment), seeds_of(options.seeds))
    study.print_rows(rows, f"{options.dataset.stem}: {study.SUMMARY}")
    return rows


def run_partitions(options: argparse.Namespace) -> int:
    """Simulate streams over several partitions."""
    _run_seeds(options, partitions)
    return 0


def run_quality_change(options: argparse.Namespace) -> int:
    """Change the quality of an LLM in the middle of a stream."""
    _run_seeds(options, quality_change)
    return 0


def run_history_growth(options: argparse.Namespace) -> int:
    """Let a short history grow by answered queries."""
    _run_seeds(options, history_growth)
    return 0


def run_off_policy(options: argparse.Namespace) -> int:
    """Evaluate policies on decisions that a router logged, or on simulated ones of another policy."""
    if options.decisions is not None:
        log = logged_decisions.read_decisions(options.decisions)
        evaluated = logged_decisions.evaluate_log(log, [options.price])
        config = {
            "experiment": "logged-decisions",
            "decisions": options.decisions.name,
            "price": options.price,
        }
        write_rows(options.json, config, evaluated)
        print(f"mean quality of the logged decisions: {evaluated[0]['logged']:.3f}")
        logged_decisions.print_rows(evaluated, f"{options.decisions.name}: {logged_decisions.SUMMARY}")
        return 0
    if options.dataset is None or options.queries is None:
        raise ValueError("--dataset and --queries, or --decisions, are required")
    _run_seeds(options, off_policy)
    return 0


def run_paretobandit(options: argparse.Namespace) -> int:
    """Compare with ParetoBandit on its own data."""
    rows = _run_seeds(options, paretobandit)
    if options.plot:
        title = "Reward at seven budgets"
        draw(
            paretobandit.curves(rows),
            "lines",
            paretobandit.AXIS,
            title,
            options.plot,
            measure="performance",
        )
    return 0


def run_reserve(options: argparse.Namespace) -> int:
    """Compare amounts that a query reserves."""
    _run_seeds(options, reserve)
    return 0


def run_paretobandit_phases(options: argparse.Namespace) -> int:
    """Compare with ParetoBandit in its own scenarios of change."""
    _run_seeds(options, paretobandit_phases)
    return 0


def run_last_bits(options: argparse.Namespace) -> int:
    """Measure how rounding changes the results of the published form."""
    data = load_dataset(options.dataset)
    vectors, identity = _vectors(options, data)
    experiment = ExperimentData(data, vectors, identity)
    rows = rounding.run(options, experiment, seeds_of(options.seeds), _config(options, experiment))
    rounding.print_rows(rows, f"{options.dataset.stem}: {rounding.SUMMARY}")
    return 0


def run_train(options: argparse.Namespace) -> int:
    """Fine-tune RoBERTa."""
    from experiments.estimates.roberta import TrainSettings, train

    data = load_dataset(options.dataset)
    settings = TrainSettings(
        options.model, options.epochs, options.batch, options.rate, options.patience, options.tokens
    )
    for seed in seeds_of(options.seeds):
        _, past = split_rows(len(data), options.queries, seed)
        train(data.select(past), settings, options.out / f"seed-{seed}", seed)
    return 0


def seeds_of(text: str) -> list[int]:
    """Parse the seeds of the command line.

    Examples
    --------
    >>> seeds_of("0..2"), seeds_of("1,5")
    ([0, 1, 2], [1, 5])
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        if not first.strip().isdigit() or (dots and not last.strip().isdigit()):
            raise ValueError(f"seeds: {text!r} is not of the form 0..4 or 0,2,5")
        seeds += range(int(first), int(last) + 1) if dots else [int(first)]
    return seeds


def _base(options: argparse.Namespace) -> ExperimentPoint:
    if options.order not in ("random", "task") and not options.order.isdigit():
        raise ValueError(f"order: {options.order!r} is not random, task or a seed")
    order = options.order if options.order in ("random", "task") else int(options.order)
    return ExperimentPoint(
        x=options.budget_factor,
        queries=options.queries,
        policies=(),
        history=options.history,
        order=order,
        factor=options.budget_factor,
        how=options.split,
        group_by=options.group_by,
        groups=options.groups,
    )


def _load_experiment(options: argparse.Namespace) -> ExperimentData:
    print(f"reading {options.dataset}", file=sys.stderr, flush=True)
    data = load_dataset(options.dataset)
    vectors, identity = _vectors(options, data)
    return ExperimentData(data, vectors, identity, options.cache, options.table, options.roberta)


def _vectors(options: argparse.Namespace, data: History) -> tuple[NDArray[np.float32], str]:
    if options.embeddings is not None:
        vectors = np.load(options.embeddings, allow_pickle=False)
        if len(vectors) != len(data):
            raise ValueError(
                f"embeddings: {options.embeddings} has {len(vectors)} rows, the data set has {len(data)}"
            )
        return as_stored(vectors), options.embedder
    embedder = load_embedder(options.embedder)
    parts = []
    with Progress(len(data), "embedding", "texts") as progress:
        for start in range(0, len(data), 64):
            parts.append(embedder.embed(data.texts[start : start + 64]).embeddings)
            progress.advance(len(parts[-1]))
    return np.vstack(parts), embedder.identity


def _config(options: argparse.Namespace, experiment: ExperimentData) -> dict[str, Any]:
    config = {k: v for k, v in vars(options).items() if k not in ("run", "json", "plot", "cache")}
    config["embedder"] = experiment.embedder
    data = experiment.data
    return {
        **{k: v.name if isinstance(v, Path) else v for k, v in config.items()},
        "vectors": hashlib.sha256(np.ascontiguousarray(experiment.embeddings).data).hexdigest()[:16],
        **{k: _folder_digest(Path(config[k])) for k in ("table", "roberta") if config.get(k)},
        "rows": len(data),
        "models": list(data.models),
        "digest": data.digest()[:16],
        "reference": "approx-optimum, k = 5",
    }


def _folder_digest(path: Path) -> str:
    """Return a folder's name and a digest of its files."""
    hasher = hashlib.sha256()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        size = file.stat().st_size
        hasher.update(f"{file.relative_to(path)}:{size}:".encode())
        if size <= _MAX_DIGESTED_BYTES:
            hasher.update(file.read_bytes())
    return f"{path.name} {hasher.hexdigest()[:8]}"
