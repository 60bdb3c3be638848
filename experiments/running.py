"""Runs policies over seeds and settings; finished rows are kept by `experiments.results`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from tqdm import tqdm

from experiments.policies.base import Decisions, Policy
from experiments.registry import REFERENCE, Context, make_policy
from experiments.results import Results, Row
from experiments.split import Case, Split
from routing.history import History
from routing.simulate import Outcome, account_for

log = structlog.get_logger()

POINT = ("x", "queries", "models", "history", "order", "factor", "how", "h", "split_seed")
"""Fields of a setting that rows are told apart by, beside policy and seed."""


@dataclass(frozen=True)
class Setting:
    """One point of an experiment: everything that is varied, beside policy and seed.

    Parameters
    ----------
    x : float or str
        The point's place on the plot's axis.
    queries : int
        N.
    models : int, optional
        So many LLMs, drawn by the seed; all when left out.
    history : int, optional
        Rows of the history; all when left out.
    order : "random", "task" or int
        Of arrival; see `experiments.split.Case.of`.
    factor : float
        Budget factor.
    how : str
        Budget split.
    h, split_seed : int
        Of the extreme and the random split.
    policies : tuple of str
        As `experiments.registry.make_policy` takes them.
    """

    x: float | str
    queries: int
    policies: tuple[str, ...]
    models: int | None = None
    history: int | None = None
    order: str | int = "random"
    factor: float = 1.0
    how: str = "weighted"
    h: int = 1
    split_seed: int = 0


@dataclass
class Laboratory:
    """The data, and where results go.

    Parameters
    ----------
    data : History
    embeddings : ndarray of float32, shape [rows, d]
    embedder : str
        Identity of what made them.
    cache : path, optional
        Folder for slow estimates.
    table, roberta : str
        As in `experiments.registry.Context`.
    """

    data: History
    embeddings: NDArray[np.float32]
    embedder: str
    cache: Path | None = None
    table: str = ""
    roberta: str = ""
    _splits: dict[tuple[Any, ...], Split] = field(default_factory=dict, repr=False)
    _offline: dict[tuple[Any, ...], tuple[Decisions, float]] = field(default_factory=dict, repr=False)
    _reference: dict[tuple[Any, ...], float] = field(default_factory=dict, repr=False)

    def split(self, setting: Setting, seed: int) -> Split:
        """History and test set; the last few are kept, with the estimates made on them."""
        key = (setting.queries, setting.history, setting.models, seed)
        if key not in self._splits:
            while len(self._splits) >= 2:
                self._splits.pop(next(iter(self._splits)))
            self._splits[key] = Split.of(
                self._models(setting.models, seed),
                self.embeddings,
                self.embedder,
                setting.queries,
                seed,
                setting.history,
                self.cache,
            )
        return self._splits[key]

    def case(self, setting: Setting, seed: int) -> Case:
        """Queries in order of arrival, and budgets."""
        return Case.of(
            self.split(setting, seed),
            setting.factor,
            setting.how,
            h=setting.h,
            order=setting.order,
            split_seed=setting.split_seed,
        )

    def context(self, setting: Setting, seed: int) -> Context:
        """What the making of a policy depends on, known before anything is split or run."""
        left = len(self.data) - setting.queries
        rows = left if setting.history is None else setting.history
        return Context(rows, self.table, self.roberta, seed)

    def policy(self, name: str, setting: Setting, seed: int) -> Policy:
        """The policy of a name for this setting's history."""
        return make_policy(name, self.context(setting, seed))

    def run(self, setting: Setting, seed: int, name: str) -> Row:
        """One row: a policy on a setting and seed, under the paper's accounting rule."""
        case = self.case(setting, seed)
        if name == REFERENCE and setting.order == "random":
            decisions, seconds = self._decided_offline(setting, seed, case)
        else:
            decisions, seconds = _timed(self.policy(name, setting, seed), case)
        outcome = account_for(decisions.choice, case.quality, case.cost, case.budgets)
        reference = self.reference(setting, seed, case)
        return _row(setting, seed, name, outcome, reference, float(case.budgets.sum()), seconds)

    def reference(self, setting: Setting, seed: int, case: Case) -> float:
        """Performance of the approximate optimum at k = 5 on the same queries and budgets, in any order."""
        key = _whatever_the_order(setting, seed)
        if key not in self._reference:
            # the offline solution does not depend on the order, its losses hardly do: one for all orders
            plain = case if setting.order == "random" else self.case(_ordered(setting), seed)
            choice = self._decided_offline(setting, seed, plain)[0].choice
            self._reference[key] = account_for(choice, plain.quality, plain.cost, plain.budgets).performance
        return self._reference[key]

    def _decided_offline(self, setting: Setting, seed: int, plain: Case) -> tuple[Decisions, float]:
        """The reference's decisions and seconds: its program of thousands of queries is solved once."""
        key = _whatever_the_order(setting, seed)
        if key not in self._offline:
            self._offline[key] = _timed(self.policy(REFERENCE, setting, seed), plain)
        return self._offline[key]

    def _models(self, count: int | None, seed: int) -> History:
        if count is None:
            return self.data
        if not 1 <= count <= len(self.data.models):
            raise ValueError(f"models: {count} must be 1 to {len(self.data.models)}, those of the data set")
        chosen = np.random.default_rng(10_000 + seed).permutation(len(self.data.models))[:count]
        return self.data.with_models([self.data.models[i] for i in sorted(chosen)])


def _timed(policy: Policy, case: Case) -> tuple[Decisions, float]:
    begun = time.perf_counter()
    decisions = policy.decide(case)
    return decisions, time.perf_counter() - begun


def _whatever_the_order(setting: Setting, seed: int) -> tuple[Any, ...]:
    """What the offline solution depends on."""
    return (seed, *(v for k, v in asdict(setting).items() if k not in ("x", "policies", "order")))


def _ordered(setting: Setting) -> Setting:
    return Setting(**{**asdict(setting), "order": "random", "policies": tuple(setting.policies)})


def _row(
    setting: Setting,
    seed: int,
    name: str,
    outcome: Outcome,
    reference: float,
    budget: float,
    seconds: float,
) -> Row:
    varied = {k: v for k, v in asdict(setting).items() if k != "policies"}
    return {
        "policy": name,
        "seed": seed,
        "performance": round(outcome.performance, 6),
        "cost": outcome.cost,
        "throughput": outcome.throughput,
        "relative": round(100 * outcome.performance / reference, 3) if reference > 0 else None,
        "efficiency": round(outcome.performance / outcome.cost, 3) if outcome.cost > 0 else None,
        "budget": budget,
        "seconds": round(seconds, 2),
        **varied,
    }


def run_all(
    laboratory: Laboratory,
    settings: Sequence[Setting],
    seeds: Iterable[int],
    config: dict[str, Any],
    out: Path | None,
) -> list[Row]:
    """Every policy on every setting and seed; rows that `out` already has are not run again.

    Parameters
    ----------
    laboratory : Laboratory
    settings : sequence of Setting
    seeds : iterable of int
    config : dict
        Written beside the rows; rows of a file with another config are an error, not a mix.
    out : path, optional
        JSON, rewritten after every row; rows that it has and that are not wanted now stay in it.

    Returns
    -------
    list of dict
        The wanted rows, in order of settings, seeds and policies.

    Raises
    ------
    ValueError
        `out` holds another experiment.
    """
    results = Results(out, config, ("policy", "seed", *POINT))
    wanted = [(s, seed, name) for s in settings for seed in seeds for name in s.policies]
    rows: list[Row] = []
    with tqdm(total=len(wanted), desc=str(config.get("experiment", "run")), unit="run", disable=None) as bar:
        for setting, seed, name in wanted:
            row = results.find({"policy": name, "seed": seed, **asdict(setting)})
            if row is None:
                bar.set_postfix_str(f"{name} seed {seed} at {setting.x}")
                row = laboratory.run(setting, seed, name)
                results.add(row)
                log.debug("run_done", policy=name, seed=seed, x=setting.x, relative=row["relative"])
            rows.append(row)
            bar.update()
    return rows
