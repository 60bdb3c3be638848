"""What the sub-commands do: gather the data, run, write JSON, print tables, draw."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from experiments import last_bits, partitions
from experiments.equal_spend import at_equal_spend
from experiments.plots import draw
from experiments.running import Laboratory, Setting, run_all, write_rows
from experiments.studies import STUDIES
from experiments.tables import markdown, print_table
from routing.datasets import load_dataset
from routing.embedding import load_embedder
from routing.history import History
from routing.unit import as_stored

EQUAL = "every policy with the budget factor at which it spends as much as the others"
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
TABLE = "prints saved results as the Markdown tables of docs/results.md"
TRAIN = "fine-tunes RoBERTa on the history of each seed: quality (multi-label) and cost (regression)"


def run_study(given: argparse.Namespace) -> int:
    """Run one of the studies."""
    study = STUDIES[given.experiment]
    laboratory = _laboratory(given)
    policies = tuple(given.policies.split(",")) if given.policies else study.policies
    values = tuple(given.values.split(",")) if given.values else None
    settings = study.settings(replace(_base(given), policies=policies), values)
    config = _config(given, laboratory)
    rows = run_all(laboratory, settings, seeds_of(given.seeds), config, given.json)
    title = f"{given.dataset.stem}: {study.summary}"
    print_table(rows, title, study.axis)
    if given.plot:
        draw(rows, study.plot, study.axis, title, given.plot)
    return 0


def run_equal_spend(given: argparse.Namespace) -> int:
    """Tune every policy's budget factor until all spend alike."""
    laboratory = _laboratory(given)
    policies = tuple(given.policies.split(",")) if given.policies else EQUAL_POLICIES
    setting = replace(_base(given), policies=policies)
    rows: list[dict[str, Any]] = []
    for seed in seeds_of(given.seeds):
        for name in tqdm(policies, desc=f"equal spend, seed {seed}", unit="policy", disable=None):
            rows.append(at_equal_spend(laboratory, setting, seed, name, given.tolerance))
            write_rows(given.json, _config(given, laboratory), rows)
    title = f"{given.dataset.stem}: equal spend"
    print_table(rows, title)
    if given.plot:
        draw(rows, "bars", "policy", title, given.plot, measure="performance")
    return 0


def run_table(given: argparse.Namespace) -> int:
    """Print saved results as Markdown."""
    for path in given.json:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["config"]["experiment"] == "partitions":
            print(partitions.markdown(found["rows"]) + "\n")
            continue
        if found["config"]["experiment"] == "last-bits":
            print(last_bits.markdown(found["rows"]) + "\n")
            continue
        study = STUDIES.get(found["config"]["experiment"])
        print(markdown(found["rows"], study.axis if study else None) + "\n")
    return 0


def run_partitions(given: argparse.Namespace) -> int:
    """Simulate streams over several partitions."""
    laboratory = _laboratory(given)
    config = _config(given, laboratory)
    rows = partitions.run(given, laboratory, config, seeds_of(given.seeds))
    partitions.print_rows(rows, f"{given.dataset.stem}: {partitions.SUMMARY}")
    return 0


def run_last_bits(given: argparse.Namespace) -> int:
    """Change the last bits under the published form."""
    data = load_dataset(given.dataset)
    vectors, identity = _vectors(given, data)
    laboratory = Laboratory(data, vectors, identity)
    rows = last_bits.run(given, laboratory, seeds_of(given.seeds))
    write_rows(given.json, _config(given, laboratory), rows)
    last_bits.print_rows(rows, f"{given.dataset.stem}: {last_bits.SUMMARY}")
    return 0


def run_train(given: argparse.Namespace) -> int:
    """Fine-tune RoBERTa."""
    from experiments.roberta import TrainSettings, train

    data = load_dataset(given.dataset)
    settings = TrainSettings(given.model, given.epochs, given.batch, given.rate, given.patience, given.tokens)
    for seed in seeds_of(given.seeds):
        order = np.random.default_rng(seed).permutation(len(data))
        train(data.select(order[given.queries :]), settings, given.out / f"seed-{seed}", seed)
    return 0


def seeds_of(text: str) -> list[int]:
    """Seeds as the command line has them.

    Examples
    --------
    >>> seeds_of("0..2"), seeds_of("1,5")
    ([0, 1, 2], [1, 5])
    """
    out: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        if not first.strip().isdigit() or (dots and not last.strip().isdigit()):
            raise ValueError(f"seeds: {text!r} is not of the form 0..4 or 0,2,5")
        out += range(int(first), int(last) + 1) if dots else [int(first)]
    return out


def _base(given: argparse.Namespace) -> Setting:
    order = given.order if given.order in ("random", "task") else int(given.order)
    return Setting(
        x=given.budget_factor,
        queries=given.queries,
        policies=(),
        history=given.history,
        order=order,
        factor=given.budget_factor,
        how=given.split,
    )


def _laboratory(given: argparse.Namespace) -> Laboratory:
    data = load_dataset(given.dataset)
    vectors, identity = _vectors(given, data)
    return Laboratory(data, vectors, identity, given.cache, given.table, given.roberta)


def _vectors(given: argparse.Namespace, data: History) -> tuple[NDArray[np.float32], str]:
    if given.embeddings is not None:
        found = np.load(given.embeddings, allow_pickle=False)
        if len(found) != len(data):
            raise ValueError(
                f"embeddings: {given.embeddings} has {len(found)} rows, the data set {len(data)}"
            )
        return as_stored(found), given.embedder
    embedder = load_embedder(given.embedder)
    parts = []
    for start in tqdm(range(0, len(data), 64), desc="embedding", unit="batch", disable=None):
        parts.append(embedder.embed(data.texts[start : start + 64]).embeddings)
    return np.vstack(parts), embedder.identity


def _config(given: argparse.Namespace, laboratory: Laboratory) -> dict[str, Any]:
    told = {k: v for k, v in vars(given).items() if k not in ("run", "json", "plot", "cache")}
    data = laboratory.data
    return {
        **{k: v.name if isinstance(v, Path) else v for k, v in told.items()},
        "rows": len(data),
        "models": list(data.models),
        "digest": data.digest()[:16],
        "reference": "approx-optimum, k = 5",
    }
