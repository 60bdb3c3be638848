"""Definitions of the studies: the varied quantity, its points, the policies and the kind of plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from experiments.policies.registry import MAIN
from experiments.runs.runner import ExperimentPoint

Value = str


@dataclass(frozen=True)
class Study:
    """One experiment.

    Parameters
    ----------
    summary : str
        Help text and title of the plot.
    axis : str
        Name of the varied quantity.
    values : tuple of str
        Default points, as on the command line.
    policies : tuple of str
        Default policies.
    vary : callable
        Maps a base point and a value to the points of that value.
    plot : {"bars", "lines", "spread"}
        One point with its interval for each policy; lines over the axis with confidence intervals; or the
        distribution over the points.
    varies_policies : bool
        The varied quantity is an option in the policies' names.
    """

    summary: str
    axis: str
    values: tuple[Value, ...]
    policies: tuple[str, ...]
    vary: Callable[[ExperimentPoint, Value], list[ExperimentPoint]]
    plot: Literal["bars", "lines", "spread"] = "lines"
    varies_policies: bool = False

    def points(self, base: ExperimentPoint, values: tuple[Value, ...] | None = None) -> list[ExperimentPoint]:
        """Return the points of all values, the default values if none are given."""
        return [point for value in values or self.values for point in self.vary(base, value)]


ONLINE = ("port-published", "port", "port-best", "batchsplit", "greedy-cost", "random")
FIGURE = (*ONLINE, "approx-optimum")

ABLATION = (
    "port:k=5:warmup=history:resolve=every:solver=newton:cost=per-length",
    "port:k=20:warmup=history:resolve=every:solver=newton:cost=per-length:weights=similarity",
    "port:k=50:warmup=history:resolve=every:solver=newton:cost=per-length:weights=similarity",
    "port-best:words=0:without=cues:kernel=none",
    "port-best:words=0:kernel=none",
    "port-best:words=0:without=cues",
    "port-best:words=0",
    "port-best:without=cues",
    "port-best:landmarks=1000",
    "port-best:landmarks=4000",
    "port-best:without=across",
    "port-best:without=cost",
    "port-best:resolve=once",
    "port-best:resolve_late=250",
    "port-best:mix=recent",
    "port-best:mix=recent:solver=exact",
    "port-best:mix=recent:warmup=buffer",
    "port-best:settle=no",
    "port-best:truth=cost",
    "port-best:truth=quality",
    "port-best:embedder=bytes",
    "port-best:embedder=static",
    "port-best",
)


TRIED = (
    "port-best",
    "port-best:adjust=isotonic",
    "port-best:adjust=linear",
    "port-best:adjust=difficulty",
    "port-best:adjust=rank1",
    "port-best:adjust=rank3",
    "port-best:adjust=rank6",
    "port-best:adjust=shrink0.8",
    "port-best:adjust=shrink1.2",
    "port-best:adjust=cautious0.05",
    "port-best:adjust=cautious-0.05",
    "port-best:deviation=-0.5",
    "port-best:deviation=-0.2",
    "port-best:deviation=0.2",
    "port-best:deviation=0.5",
)


def _field(
    name: str, kind: Callable[[str], object]
) -> Callable[[ExperimentPoint, Value], list[ExperimentPoint]]:
    def vary(base: ExperimentPoint, value: Value) -> list[ExperimentPoint]:
        return [replace(base, x=kind(value), **{name: kind(value)})]  # type: ignore[arg-type]

    return vary


def _options(*forms: str) -> Callable[[ExperimentPoint, Value], list[ExperimentPoint]]:
    """Vary an option in the policies' names."""

    def vary(base: ExperimentPoint, value: Value) -> list[ExperimentPoint]:
        policies = tuple(form.format(value) for form in forms)
        return [replace(base, x=float(value), policies=policies)]

    return vary


def _budget_rule(base: ExperimentPoint, value: Value) -> list[ExperimentPoint]:
    """Vary the budget split: `extreme3` has h = 3, `random7` draws with seed 7."""
    for name, field in (("extreme", "h"), ("random", "split_seed")):
        if value.startswith(name) and value != name:
            number = int(value[len(name) :])
            return [replace(base, x=value, how=name, **{field: number})]  # type: ignore[arg-type]
    return [replace(base, x=value, how=value)]


def _order(base: ExperimentPoint, value: Value) -> list[ExperimentPoint]:
    order = value if value in ("random", "task") else int(value)
    return [replace(base, x=value, order=order)]


def _main(base: ExperimentPoint, _: Value) -> list[ExperimentPoint]:
    return [base]


STUDIES = {
    "main": Study("every policy at one setting", "policy", ("",), MAIN, _main, "bars"),
    "volume": Study(
        "the number of queries",
        "queries",
        ("4000", "6000", "8000", "10000", "12000"),
        FIGURE,
        _field("queries", int),
    ),
    "llms": Study(
        "random subsets of the LLMs, one for each seed",
        "LLMs",
        ("2", "4", "6", "8", "10", "12", "14", "16"),
        FIGURE,
        _field("models", int),
    ),
    "orders": Study(
        "100 random orders of arrival, and sorted by task",
        "order",
        (*map(str, range(100)), "task"),
        ONLINE,
        _order,
        "spread",
    ),
    "budget": Study(
        "budget factors",
        "budget factor",
        ("0.25", "0.5", "0.75", "1", "1.25", "1.5", "1.75", "2"),
        FIGURE,
        _field("factor", float),
    ),
    "splits": Study(
        "the split of the budget over the LLMs",
        "split",
        (
            "weighted",
            "cost",
            "perf",
            "uniform",
            *(f"random{i}" for i in range(100)),
            *(f"extreme{i}" for i in range(1, 6)),
        ),
        ONLINE,
        _budget_rule,
        "spread",
    ),
    "eps": Study(
        "the share of queries from which the first prices are learned",
        "eps",
        ("0.005", "0.01", "0.025", "0.05", "0.1", "0.2"),
        ("port:eps=..", "port-published:eps=.."),
        _options("port:eps={}", "port:eps={}:resolve=geometric", "port-published:eps={}"),
        varies_policies=True,
    ),
    "alpha": Study(
        "alpha of the published form",
        "alpha",
        ("1e-5", "3e-5", "1e-4", "3e-4", "1e-3", "1e-2"),
        ("port-published:alpha=..",),
        _options("port-published:alpha={}"),
        varies_policies=True,
    ),
    "neighbours": Study(
        "the number of neighbours and their weights",
        "k",
        ("1", "3", "5", "10", "20", "50", "100"),
        ("port:k=..",),
        _options("port:k={}:resolve=geometric", "port:k={}:weights=similarity:resolve=geometric"),
        varies_policies=True,
    ),
    "history": Study(
        "the length of the history",
        "history rows",
        ("500", "1000", "2000", "4000", "8000", "12000"),
        ("port", "port-best", "port-best:embedder=bytes", "approx-optimum"),
        _field("history", int),
    ),
    "embedding": Study(
        "the embedder of the texts",
        "policy",
        ("",),
        ("port-best", "port-best:embedder=bytes", "port-best:embedder=bytes:dimension=64", "port-fast"),
        _main,
        "bars",
    ),
    "tried": Study(
        "variants of the best router that were not adopted", "policy", ("",), TRIED, _main, "bars"
    ),
    "ablation": Study(
        "the contribution of each part of the best router", "policy", ("",), ABLATION, _main, "bars"
    ),
}
