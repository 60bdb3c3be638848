"""ParetoBandit against prices of one shared total, on ParetoBandit's own data, split and budgets."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.cases import Case, Split
from experiments.policies.base import Policy
from experiments.policies.port import Port
from experiments.policies.registry import Context, make_policy
from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Row, write_rows
from experiments.runs.runner import ExperimentData
from experiments.studies.paretobandit_features import FIRST_SEED, features_of
from routing.arrays import FloatArray, IntArray
from routing.budgets.budget import Budget
from routing.budgets.catalogue import TOTAL
from routing.extras import missing_module
from routing.history.history import History
from routing.progress import tracked

SUMMARY = "ParetoBandit 0.1.1 and one shared total on ParetoBandit's data, at seven budgets"
TARGETS = 7
PARETO = "paretobandit"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command, except those that name the data."""
    parser.add_argument("--policies", default="port-best", metavar="A,B", help="port policies [%(default)s]")


def rows_of(path: Path, name: str) -> NDArray[np.int64]:
    """Return the rows of one of ParetoBandit's splits, by the column `split` of a data set.

    Raises
    ------
    ValueError
        The data set has no such rows.
    """
    table = pd.read_parquet(path)
    if "split" not in table or not (table["split"] == name).any():
        raise ValueError(f"dataset: {path} has no rows with split = {name!r}; give ParetoBandit's data")
    return np.flatnonzero((table["split"] == name).to_numpy())


def targets_of(data: History, past: NDArray[np.int64], test: NDArray[np.int64]) -> list[float]:
    """Return ParetoBandit's budgets in USD per query: from the cheapest to the dearest LLM's mean cost.

    As in its demo, the means are over both splits.
    """
    means = data.cost[np.concatenate([past, test])].mean(0)
    return [float(target) for target in np.geomspace(means.min(), means.max(), TARGETS)]


def trial(data: History, features: FloatArray, past: Any, test: Any, target: float, seed: int) -> Row:
    """Run ParetoBandit with its budget pacer: it learns on the history, then on the queries as they come."""
    from pareto_bandit.budget_pacer import BudgetPacer, PacingMode
    from pareto_bandit.demo import ARM_ORDER, DataSplit, run_trial

    if missing := [arm for arm in ARM_ORDER if arm not in data.models]:
        raise ValueError(f"dataset: it has no LLM {missing[0]!r}; give ParetoBandit's data")
    columns = {arm: data.models.index(arm) for arm in ARM_ORDER}
    splits = [
        DataSplit(
            embeddings=features[rows],
            rewards={arm: data.quality[rows, column] for arm, column in columns.items()},
            costs={arm: data.cost[rows, column] for arm, column in columns.items()},
        )
        for rows in (past, test)
    ]
    logging.disable(logging.WARNING)
    try:
        pacer = BudgetPacer(target_avg_spend_usd=target, mode=PacingMode.ADAPTIVE)
        result = run_trial(*splits, cost_penalty=0.0, budget_pacer=pacer, seed=seed)
    finally:
        logging.disable(logging.NOTSET)
    return {"reward": result.mean_reward, "cost": result.mean_cost}


def run(
    options: argparse.Namespace,
    experiment: ExperimentData,
    config: dict[str, Any],
    seeds: Sequence[int],
) -> list[Row]:
    """Run ParetoBandit and the policies at every budget and seed.

    A policy runs twice: on the budget that ParetoBandit was given, and on what ParetoBandit spent.

    Raises
    ------
    ValueError
        The package paretobandit is missing, or the data set is another.
    """
    try:
        import pareto_bandit  # noqa: F401
    except ImportError:
        raise ValueError(missing_module("pareto_bandit")) from None
    data = experiment.data
    past, test = rows_of(options.dataset, "val"), rows_of(options.dataset, "test")
    features, rows = features_of(experiment.embeddings), []
    split = Split(data, experiment.embeddings, experiment.embedder, test, past, 0, experiment.cache)
    runs = [(target, seed) for target in targets_of(data, past, test) for seed in seeds]
    for target, seed in tracked(runs, PARETO, "budgets"):
        own = trial(data, features, past, test, target, FIRST_SEED + seed)
        place = {"target": target, "seed": seed}
        order = np.random.default_rng(FIRST_SEED + seed).permutation(len(test))
        rows.append({"policy": PARETO, "budget": "target", **place, **own})
        for name in options.policies.split(","):
            policy = make_policy(name, Context(len(past)))
            if not isinstance(policy, Port):
                raise ValueError(f"policies: {name!r} has no planner; give port policies")
            for kind, amount in (("target", target), ("spent", own["cost"])):
                result = with_one_total(split, policy, amount, order, seed)
                rows.append({"policy": name, "budget": kind, **place, **result})
        write_rows(options.json, config, rows)
    return rows


def with_one_total(split: Split, policy: Policy, mean_budget: float, order: IntArray, seed: int) -> Row:
    """Return mean reward and cost of the queries in this order, with one total of so many USD a query."""
    n = len(split.test)
    total = mean_budget * n
    per_llm = np.full(len(split.data.models), total / len(split.data.models))
    case = Case(split, order, per_llm, n, seed, (Budget(TOTAL, limit=total),))
    outcome = case.account(policy.decide(case).choice)
    return {"reward": outcome.performance / n, "cost": outcome.cost / n}


HEAD = ("USD a query", "policy", "total", "reward", "spend / target")


def _lines(rows: list[Row]) -> list[Cells]:
    groups: dict[tuple[float, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["policy"], row["budget"]), []).append(row)
    return [
        [
            f"{target:.2e}",
            policy,
            "the target" if kind == "target" else "ParetoBandit's spend",
            f"{np.mean([row['reward'] for row in group]):.4f}",
            f"{np.mean([row['cost'] for row in group]) / target:.3f}",
        ]
        for (target, policy, kind), group in groups.items()
    ]


AXIS = "budget, USD a query"


def print_rows(rows: list[Row], title: str) -> None:
    """Print the table on the terminal."""
    print_cells(HEAD, _lines(rows), title)


def markdown(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    return markdown_cells(HEAD, _lines(rows))


def curves(rows: list[Row]) -> list[Row]:
    """Return the rows for the plot of reward over spend: policy, x and performance."""
    return [
        {**row, "x": row["target"], "performance": row["reward"], "policy": row["policy"]}
        for row in rows
        if row["budget"] == "target"
    ]
