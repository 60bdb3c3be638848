"""ParetoBandit against prices in its own three-phase scenarios: an LLM gets worse, or cheaper."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.cases import Split
from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Row, write_rows
from experiments.runs.runner import ExperimentData
from experiments.studies.paretobandit import PARETO, rows_of
from experiments.studies.paretobandit_features import FIRST_SEED, features_of
from experiments.studies.quality_change import shared_total
from routing.arrays import FloatArray, IntArray
from routing.extras import missing_module
from routing.history.history import History
from routing.progress import tracked

SUMMARY = "ParetoBandit 0.1.1 and prices in its own scenarios: an LLM gets worse, or cheaper, and recovers"
PHASES = 3
PHASE_QUERIES = 608
"""Queries of each phase, as in ParetoBandit's demo."""

SCENARIOS = ("quality", "price")
LEVELS = ("tight", "moderate", "loose")
"""The demo's budgets."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """One trial: its queries in order of arrival, and what changes in the second of three phases.

    Parameters
    ----------
    rows : ndarray of int64, shape [n]
        Rows of the data set.
    quality, cost : ndarray of float64, shape [n, M]
        True ones, with the change.
    price : ndarray of float64, shape [n, M]
        Factors of the list prices, which are known when they change.
    """

    rows: IntArray
    quality: FloatArray
    cost: FloatArray
    price: FloatArray


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command, except those that name the data."""
    parser.add_argument("--policy", default="port-best", help="one of the port policies [%(default)s]")
    parser.add_argument(
        "--outcome-after", type=int, default=0, metavar="Q", help="queries until an outcome [%(default)s]"
    )
    parser.add_argument("--clusters", type=int, default=8, help="task clusters [%(default)s]")


def phase_rows(past: int, pools: tuple[IntArray, IntArray], seed: int) -> IntArray:
    """Return the order in which a trial of ParetoBandit's demo sees the queries of its pools.

    The first phase's queries come again in the third, in another order.

    Parameters
    ----------
    past : int
        Queries that it learns from before.
    pools : pair of ndarray of int64
        Of the first and third phase, and of the second.
    seed : int
    """
    rng = np.random.default_rng(seed)
    rng.permutation(past)
    orders = [rng.permutation(len(pools[number])) for number in (0, 1, 0)]
    return np.concatenate([pools[number][order] for number, order in zip((0, 1, 0), orders, strict=True)])


def scenario_of(
    name: str, data: History, rows: IntArray, worse: tuple[str, float], cheaper: tuple[str, float]
) -> Scenario:
    """Return a scenario on the rows of a trial.

    Parameters
    ----------
    name : {"quality", "price"}
    data : History
    rows : ndarray of int64, shape [n]
    worse : pair of str and float
        The LLM that gets worse, and the quality of its answers then.
    cheaper : pair of str and float
        The LLM that gets cheaper, and the factor of its price.
    """
    quality, cost = data.quality[rows].copy(), data.cost[rows].copy()
    price, n = np.ones_like(cost), len(rows)
    second = slice(n // PHASES, 2 * n // PHASES)
    if name == "quality":
        quality[second, data.models.index(worse[0])] = worse[1]
    else:
        price[second, data.models.index(cheaper[0])] = cheaper[1]
    return Scenario(rows, quality, cost * price, price)


def by_phase(values: FloatArray) -> list[float]:
    """Return the mean of each phase.

    Examples
    --------
    >>> import numpy as np
    >>> by_phase(np.array([1.0, 3.0, 0.0, 0.0, 5.0, 5.0]))
    [2.0, 0.0, 5.0]
    """
    return [float(part.mean()) for part in np.split(values, PHASES)]


def run(
    options: argparse.Namespace, experiment: ExperimentData, config: dict[str, Any], seeds: Sequence[int]
) -> list[Row]:
    """Run both scenarios at three budgets and all seeds.

    Raises
    ------
    ValueError
        The package paretobandit is missing, or the data set is another.
    """
    try:
        from pareto_bandit import demo
    except ImportError:
        raise ValueError(missing_module("pareto_bandit")) from None
    data = experiment.data
    past, test = rows_of(options.dataset, "val"), rows_of(options.dataset, "test")
    features = features_of(experiment.embeddings)
    splits = [demo_split(data, features, rows) for rows in (past, test)]
    changes = (demo._DEGRADED_ARM, demo._DEGRADED_REWARD), (demo.GEMINI_ARM, demo._gemini_cost_scale())
    targets = dict(zip(demo.K3_BUDGET_LABELS, demo.K3_BUDGET_TARGETS, strict=True))
    # as in the demo: the pools of all trials are the same
    shuffled = np.random.default_rng(FIRST_SEED).permutation(len(test))
    pools = shuffled[:PHASE_QUERIES], shuffled[PHASE_QUERIES : 2 * PHASE_QUERIES]
    rows: list[Row] = []
    runs = [(name, level, seed) for name in SCENARIOS for level in LEVELS for seed in seeds]
    for name, level, seed in tracked(runs, "phases", "trials"):
        trial_seed, target = FIRST_SEED + seed, targets[level]
        scenario = scenario_of(name, data, test[phase_rows(len(past), pools, trial_seed)], *changes)
        trial = demo._run_degradation_trial if name == "quality" else demo._run_cost_drift_trial
        results = {PARETO: bandit(trial, splits, pools, target, trial_seed)}
        split = Split(
            data, experiment.embeddings, experiment.embedder, scenario.rows, past, 0, experiment.cache
        )
        results |= prices(split, scenario, target, options)
        place = {"scenario": name, "target": target, "seed": seed}
        rows += [{**place, **_row(policy, *result)} for policy, result in results.items()]
        write_rows(options.json, config, rows)
    return rows


def demo_split(data: History, features: FloatArray, rows: IntArray) -> Any:
    """Return rows of a data set in the form of ParetoBandit's demo."""
    from pareto_bandit.demo import ARM_ORDER, DataSplit

    columns = {arm: data.models.index(arm) for arm in ARM_ORDER}
    return DataSplit(
        embeddings=features[rows],
        rewards={arm: data.quality[rows, column] for arm, column in columns.items()},
        costs={arm: data.cost[rows, column] for arm, column in columns.items()},
    )


def bandit(
    trial: Callable[..., Any],
    splits: Sequence[Any],
    pools: tuple[IntArray, IntArray],
    target: float,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """Run a trial of ParetoBandit with its budget pacer; return reward and cost of each query."""
    from pareto_bandit.budget_pacer import BudgetPacer, PacingMode

    logging.disable(logging.WARNING)
    try:
        pacer = BudgetPacer(target_avg_spend_usd=target, mode=PacingMode.ADAPTIVE)
        _, rewards, costs, _ = trial(*splits, *pools, budget_pacer=pacer, seed=seed)
    finally:
        logging.disable(logging.NOTSET)
    return np.asarray(rewards), np.asarray(costs)


def prices(
    split: Split, scenario: Scenario, target: float, options: argparse.Namespace
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Route a scenario by prices of one total, without and with learning; return reward and cost."""
    n = len(scenario.rows)
    cheapest = float(split.data.cost[split.test].sum(0).min())
    stream = shared_total(split, options.policy, target * n / cheapest, options.clusters)
    stream = stream.at_prices(scenario.cost, scenario.price)
    results = {}
    for name, learns in (("prices", False), ("prices, learning", True)):
        choice, reward = stream.run(
            lambda j, i: float(scenario.quality[j, i]), learns=learns, outcome_after=options.outcome_after
        )
        cost = np.where(choice >= 0, scenario.cost[np.arange(n), np.maximum(choice, 0)], 0.0)
        results[name] = reward, cost
    return results


def _row(policy: str, reward: FloatArray, cost: FloatArray) -> Row:
    return {
        "policy": policy,
        "reward": by_phase(reward),
        "cost": by_phase(cost),
        "mean_reward": float(reward.mean()),
        "mean_cost": float(cost.mean()),
    }


HEAD = ("scenario", "USD a query", "policy", "reward", "by phase", "spend / target", "by phase")


def _lines(rows: list[Row]) -> list[Cells]:
    groups: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["scenario"], row["target"], row["policy"]), []).append(row)
    lines = []
    for (scenario, target, policy), group in sorted(groups.items(), key=lambda g: SCENARIOS.index(g[0][0])):
        reward, cost = (np.mean([row[name] for row in group], axis=0) for name in ("reward", "cost"))
        lines.append(
            [
                scenario,
                f"{target:.2e}",
                policy,
                f"{np.mean([row['mean_reward'] for row in group]):.4f}",
                ", ".join(f"{value:.3f}" for value in reward),
                f"{np.mean([row['mean_cost'] for row in group]) / target:.2f}",
                ", ".join(f"{value / target:.2f}" for value in cost),
            ]
        )
    return lines


def print_rows(rows: list[Row], title: str) -> None:
    """Print the table on the terminal."""
    print_cells(HEAD, _lines(rows), title)


def markdown(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    return markdown_cells(HEAD, _lines(rows))
