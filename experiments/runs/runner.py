"""Run policies over points and seeds; `experiments.runs.results` stores the rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from experiments.cases import Case, Split
from experiments.policies.base import Decisions, Policy
from experiments.policies.registry import REFERENCE, Context, make_policy
from experiments.runs.results import Results, Row
from routing.accounting import SimulationResult
from routing.history.history import History
from routing.progress import Progress

log = structlog.get_logger()

_CACHED_SPLITS = 2

POINT = (
    "x",
    "queries",
    "models",
    "history",
    "order",
    "factor",
    "how",
    "h",
    "split_seed",
    "group_by",
    "groups",
)
"""Fields of a point that identify a row, together with policy and seed."""


@dataclass(frozen=True)
class ExperimentPoint:
    """One point of an experiment: every varied quantity except policy and seed.

    Parameters
    ----------
    x : float or str
        Position on the plot's axis.
    queries : int
        N.
    models : int, optional
        Number of LLMs, drawn by the seed; all by default.
    history : int, optional
        Rows of the history; all by default.
    order : "random", "task" or int
        Order of arrival; see `experiments.cases.Case.of`.
    factor : float
        Budget factor.
    how : str
        Budget split, or "shared" for one total.
    h, split_seed : int
        Parameters of the extreme and the random split.
    group_by : str
        Field that queries are grouped by; only with groups.
    groups : str
        Shares of the total for each group, such as "40,30,15,10,5"; only with "shared".
    policies : tuple of str
        Names for `experiments.policies.registry.make_policy`.
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
    group_by: str = ""
    groups: str = ""

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the groups; empty without groups.

        Raises
        ------
        ValueError
            A share is not a positive number.
        """
        try:
            shares = tuple(float(share) for share in self.groups.split(",")) if self.groups else ()
        except ValueError:
            shares = (0.0,)
        if any(not 0 < share < float("inf") for share in shares):
            raise ValueError(f"groups: {self.groups!r} must be positive numbers, such as 40,30,15,10,5")
        return shares


@dataclass
class ExperimentData:
    """A data set with its embeddings; splits it, makes policies and runs them.

    Parameters
    ----------
    data : History
    embeddings : ndarray of float32, shape [rows, d]
    embedder : str
        Identity of the embedder.
    cache : path, optional
        Folder in which slow estimates are cached.
    table, roberta : str
        As in `experiments.policies.registry.Context`.
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

    def split(self, point: ExperimentPoint, seed: int) -> Split:
        """Return history and test set; the last two splits are cached with their estimates."""
        key = (point.queries, point.history, point.models, seed)
        if key not in self._splits:
            while len(self._splits) >= _CACHED_SPLITS:
                self._splits.pop(next(iter(self._splits)))
            self._splits[key] = Split.of(
                self._models(point.models, seed),
                self.embeddings,
                self.embedder,
                point.queries,
                seed,
                point.history,
                self.cache,
            )
        return self._splits[key]

    def case(self, point: ExperimentPoint, seed: int) -> Case:
        """Return the queries in order of arrival, and budgets."""
        return Case.of(
            self.split(point, seed),
            point.factor,
            point.how,
            h=point.h,
            order=point.order,
            split_seed=point.split_seed,
            group_by=point.group_by,
            groups=point.shares,
        )

    def context(self, point: ExperimentPoint, seed: int) -> Context:
        """Return what policies are made from; it is known before anything is split or run."""
        remaining = len(self.data) - point.queries
        rows = remaining if point.history is None else point.history
        return Context(rows, self.table, self.roberta, seed)

    def policy(self, name: str, point: ExperimentPoint, seed: int) -> Policy:
        """Make a policy for this point's history."""
        return make_policy(name, self.context(point, seed))

    def run(self, point: ExperimentPoint, seed: int, name: str) -> Row:
        """Run a policy on a point and seed, and return its row by the paper's accounting rule."""
        case = self.case(point, seed)
        if name == REFERENCE and point.order == "random":
            decisions, seconds = self._offline_decisions(point, seed, case)
        else:
            decisions, seconds = _timed(self.policy(name, point, seed), case)
        outcome = case.account(decisions.choice)
        reference = self.reference(point, seed, case)
        return _row(point, seed, name, outcome, reference, float(case.budgets.sum()), seconds)

    def reference(self, point: ExperimentPoint, seed: int, case: Case) -> float:
        """Return the performance of the approximate optimum at k = 5 on the same queries and budgets."""
        key = _key_without_order(point, seed)
        if key not in self._reference:
            # The offline solution does not depend on the order, and its losses hardly do: solve it once.
            unordered = case if point.order == "random" else self.case(_in_random_order(point), seed)
            choice = self._offline_decisions(point, seed, unordered)[0].choice
            self._reference[key] = unordered.account(choice).performance
        return self._reference[key]

    def _offline_decisions(self, point: ExperimentPoint, seed: int, case: Case) -> tuple[Decisions, float]:
        """Return the reference's decisions and seconds; the linear program is solved once for all orders."""
        key = _key_without_order(point, seed)
        if key not in self._offline:
            self._offline[key] = _timed(self.policy(REFERENCE, point, seed), case)
        return self._offline[key]

    def _models(self, count: int | None, seed: int) -> History:
        if count is None:
            return self.data
        if not 1 <= count <= len(self.data.models):
            raise ValueError(
                f"models: {count} must be 1 to {len(self.data.models)}, the number in the data set"
            )
        columns = np.random.default_rng(10_000 + seed).permutation(len(self.data.models))[:count]
        return self.data.with_models([self.data.models[i] for i in sorted(columns)])


def _timed(policy: Policy, case: Case) -> tuple[Decisions, float]:
    start = time.perf_counter()
    decisions = policy.decide(case)
    return decisions, time.perf_counter() - start


def _key_without_order(point: ExperimentPoint, seed: int) -> tuple[Any, ...]:
    """Return the fields that the offline solution depends on."""
    return (seed, *(v for k, v in asdict(point).items() if k not in ("x", "policies", "order")))


def _in_random_order(point: ExperimentPoint) -> ExperimentPoint:
    return ExperimentPoint(**{**asdict(point), "order": "random", "policies": tuple(point.policies)})


def _row(
    point: ExperimentPoint,
    seed: int,
    name: str,
    outcome: SimulationResult,
    reference: float,
    budget: float,
    seconds: float,
) -> Row:
    varied = {k: v for k, v in asdict(point).items() if k != "policies"}
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
    experiment: ExperimentData,
    points: Sequence[ExperimentPoint],
    seeds: Iterable[int],
    config: dict[str, Any],
    out: Path | None,
) -> list[Row]:
    """Run every policy on every point and seed, except for rows that `out` already has.

    Parameters
    ----------
    experiment : ExperimentData
    points : sequence of ExperimentPoint
    seeds : iterable of int
    config : dict
        Written beside the rows. A file with another config is an error.
    out : path, optional
        Result file, rewritten after every row. Its other rows are kept.

    Returns
    -------
    list of dict
        The requested rows, in order of points, seeds and policies.

    Raises
    ------
    ValueError
        `out` holds another experiment.
    """
    results = Results(out, config, ("policy", "seed", *POINT))
    runs = [(point, seed, name) for point in points for seed in seeds for name in point.policies]
    rows: list[Row] = []
    with Progress(len(runs), str(config.get("experiment", "run")), "runs") as progress:
        for point, seed, name in runs:
            row = results.find({"policy": name, "seed": seed, **asdict(point)})
            if row is None:
                progress.move_to(len(rows), f"{name} seed {seed} at {point.x}")
                row = experiment.run(point, seed, name)
                results.add(row)
                log.debug("run_done", policy=name, seed=seed, x=point.x, relative=row["relative"])
            rows.append(row)
            progress.move_to(len(rows))
    return rows
