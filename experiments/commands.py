"""What the sub-commands do: gather the data, run, write JSON, print tables, draw."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from experiments import last_bits, partitions
from experiments.checks import runnable
from experiments.equal_spend import at_equal_spend
from experiments.plots import draw
from experiments.results import Results
from experiments.running import POINT, Laboratory, Setting, run_all
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
_READ = 1 << 26
"""Bytes of the largest file that is read for a folder's digest; weights beyond count by their size."""

TRAIN = "fine-tunes RoBERTa on the history of each seed: quality (multi-label) and cost (regression)"


def run_study(given: argparse.Namespace) -> int:
    """Run one of the studies."""
    study = STUDIES[given.experiment]
    laboratory = _laboratory(given)
    policies = tuple(given.policies.split(",")) if given.policies else study.policies
    values = tuple(given.values.split(",")) if given.values else None
    seeds = seeds_of(given.seeds)
    settings = runnable(
        laboratory,
        study.settings(replace(_base(given), policies=policies), values),
        seeds,
        points_given=values is not None,
        policies_given=given.policies is not None or (study.varies_policies and values is not None),
    )
    rows = run_all(laboratory, settings, seeds, _config(given, laboratory), given.json)
    title = f"{given.dataset.stem}: {study.summary}"
    print_table(rows, title, study.axis, study.plot)
    if given.plot:
        draw(rows, study.plot, study.axis, title, given.plot)
    return 0


def run_equal_spend(given: argparse.Namespace) -> int:
    """Tune every policy's budget factor until all spend alike."""
    laboratory = _laboratory(given)
    policies = tuple(given.policies.split(",")) if given.policies else EQUAL_POLICIES
    seeds = seeds_of(given.seeds)
    setting = replace(_base(given), policies=policies)
    (setting,) = runnable(
        laboratory, [setting], seeds, points_given=True, policies_given=given.policies is not None
    )
    key = ("policy", "seed", *(name for name in POINT if name != "factor"))
    results = Results(given.json, _config(given, laboratory), key, fixed=("tolerance",))
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for name in tqdm(setting.policies, desc=f"equal spend, seed {seed}", unit="policy", disable=None):
            row = results.find({"policy": name, "seed": seed, **asdict(setting)})
            # before rows told their tries, the search gave up earlier
            if row is None or not (row["reached"] or "tries" in row):
                row = at_equal_spend(laboratory, setting, seed, name, given.tolerance)
                results.add(row)
            rows.append(row)
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
        told = markdown(found["rows"], study.axis, study.plot) if study else markdown(found["rows"])
        print(told + "\n")
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
    rows = last_bits.run(given, laboratory, seeds_of(given.seeds), _config(given, laboratory))
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
    if given.order not in ("random", "task") and not given.order.isdigit():
        raise ValueError(f"order: {given.order!r} is not random, task or a seed")
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
    told["embedder"] = laboratory.embedder
    data = laboratory.data
    return {
        **{k: v.name if isinstance(v, Path) else v for k, v in told.items()},
        "vectors": hashlib.sha256(np.ascontiguousarray(laboratory.embeddings).data).hexdigest()[:16],
        **{k: _folder(Path(told[k])) for k in ("table", "roberta") if told.get(k)},
        "rows": len(data),
        "models": list(data.models),
        "digest": data.digest()[:16],
        "reference": "approx-optimum, k = 5",
    }


def _folder(path: Path) -> str:
    """A folder's name, and a digest of what its files are."""
    hasher = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        size = file.stat().st_size
        hasher.update(f"{file.relative_to(path)}:{size}:".encode())
        if size <= _READ:
            hasher.update(file.read_bytes())
    return f"{path.name} {hasher.hexdigest()[:8]}"
