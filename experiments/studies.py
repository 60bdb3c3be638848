"""The experiments: what is varied, over which points, with which policies, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from experiments.registry import MAIN
from experiments.running import Setting

Value = str


@dataclass(frozen=True)
class Study:
    """One experiment.

    Parameters
    ----------
    summary : str
        For people.
    axis : str
        Name of what is varied.
    values : tuple of str
        Points, as the command line takes them.
    policies : tuple of str
        Default policies.
    vary : callable
        A setting and a value to the settings of that point.
    plot : {"bars", "lines", "spread"}
        Bars a policy; lines over the axis with confidence bands; or the distribution over the points.
    numeric : bool
        The axis is a number.
    varies_policies : bool
        What is varied is an option in the policies' names.
    """

    summary: str
    axis: str
    values: tuple[Value, ...]
    policies: tuple[str, ...]
    vary: Callable[[Setting, Value], list[Setting]]
    plot: Literal["bars", "lines", "spread"] = "lines"
    numeric: bool = True
    varies_policies: bool = False

    def settings(self, base: Setting, values: tuple[Value, ...] | None = None) -> list[Setting]:
        """Every point's setting."""
        return [one for value in values or self.values for one in self.vary(base, value)]


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


def _field(name: str, kind: Callable[[str], object]) -> Callable[[Setting, Value], list[Setting]]:
    def vary(base: Setting, value: Value) -> list[Setting]:
        return [replace(base, x=kind(value), **{name: kind(value)})]  # type: ignore[arg-type]

    return vary


def _options(*forms: str) -> Callable[[Setting, Value], list[Setting]]:
    """Policies that have the value in their names; the others run as they are."""

    def vary(base: Setting, value: Value) -> list[Setting]:
        named = tuple(form.format(value) for form in forms)
        return [replace(base, x=float(value), policies=named)]

    return vary


def _budget_rule(base: Setting, value: Value) -> list[Setting]:
    """A split by name; `extreme3` has h = 3, `random7` draws with seed 7."""
    for name, field in (("extreme", "h"), ("random", "split_seed")):
        if value.startswith(name) and value != name:
            number = int(value[len(name) :])
            return [replace(base, x=value, how=name, **{field: number})]  # type: ignore[arg-type]
    return [replace(base, x=value, how=value)]


def _order(base: Setting, value: Value) -> list[Setting]:
    order = value if value in ("random", "task") else int(value)
    return [replace(base, x=value, order=order)]


def _main(base: Setting, _: Value) -> list[Setting]:
    return [base]


STUDIES = {
    "main": Study("every policy at one setting", "policy", ("",), MAIN, _main, "bars", False),
    "volume": Study(
        "the number of queries",
        "queries",
        ("4000", "6000", "8000", "10000", "12000"),
        FIGURE,
        _field("queries", int),
    ),
    "llms": Study(
        "random subsets of the LLMs, one a seed",
        "LLMs",
        ("2", "4", "6", "8", "10", "12", "14", "16"),
        FIGURE,
        _field("models", int),
    ),
    "orders": Study(
        "arrival in 100 random orders, and sorted by task",
        "order",
        (*map(str, range(100)), "task"),
        ONLINE,
        _order,
        "spread",
        False,
    ),
    "budget": Study(
        "budget factors",
        "budget factor",
        ("0.25", "0.5", "0.75", "1", "1.25", "1.5", "1.75", "2"),
        FIGURE,
        _field("factor", float),
    ),
    "splits": Study(
        "how the budget is split over the LLMs",
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
        False,
    ),
    "eps": Study(
        "the share of queries that the first prices are learned from",
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
        "what the texts are embedded by",
        "policy",
        ("",),
        ("port-best", "port-best:embedder=bytes", "port-best:embedder=bytes:dimension=64", "port-fast"),
        _main,
        "bars",
        False,
    ),
    "tried": Study("what was tried past the best router", "policy", ("",), TRIED, _main, "bars", False),
    "ablation": Study(
        "what each part of the best router gives", "policy", ("",), ABLATION, _main, "bars", False
    ),
}
