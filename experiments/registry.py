"""Policies by name, as the command line asks for them: `port-best`, `port:resolve=geometric:k=50`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.adjusted import AdjustedSource
from experiments.linear import LinearSource
from experiments.policies.base import Policy
from experiments.policies.oracles import Offline
from experiments.policies.port import Port, PortPublished
from experiments.policies.simple import BatchSplit, GreedyBudget, GreedyQuality, Random, Single
from experiments.sources import NeighbourSource, RidgeSource, TruthSource, preset_source, without
from experiments.split import Source
from experiments.stacked import StackedSource
from experiments.uncertain import UncertainSource
from routing.planning import PlanningSettings
from routing.presets import PRESETS, choose_preset

HNSW = NeighbourSource(index="hnsw", own=False)
EXACT = NeighbourSource()
PAPER = {"warmup": "buffer", "resolve": "once", "solver": "exact"}
REFERENCE = "approx-optimum"
"""Every performance is also told as a share of this policy's."""


@dataclass(frozen=True)
class Context:
    """What the making of a policy depends on.

    Parameters
    ----------
    rows : int
        Length of the history.
    table : str
        Folder of a static table, for `port-static`.
    roberta : str
        Folder of trained RoBERTa models, for `roberta-perf` and `roberta-cost`.
    seed : int, optional
        Of the split; with it, the trained models of that seed must be there.
    """

    rows: int
    table: str = ""
    roberta: str = ""
    seed: int | None = None


def _plain() -> dict[str, Callable[[Context], Policy]]:
    return {
        "random": lambda _: Random(),
        "greedy-perf": lambda _: GreedyQuality("greedy-perf", HNSW),
        "greedy-cost": lambda _: GreedyBudget("greedy-cost", HNSW),
        "knn-perf": lambda _: GreedyQuality("knn-perf", EXACT),
        "knn-cost": lambda _: GreedyBudget("knn-cost", EXACT),
        "batchsplit": lambda _: BatchSplit(EXACT),
        "roberta-perf": lambda c: GreedyQuality("roberta-perf", _roberta(c)),
        "roberta-cost": lambda c: GreedyBudget("roberta-cost", _roberta(c)),
        "best-single": lambda _: Single("best-single"),
        "cheapest": lambda _: Single("cheapest"),
        "approx-optimum": lambda _: Offline("approx-optimum", EXACT),
        "optimum": lambda _: Offline("optimum"),
        "port-published": lambda _: PortPublished(EXACT),
        "port": lambda _: Port("port", EXACT, dict(PAPER)),
        **{f"port-{name}": _preset(name) for name in PRESETS},
    }


def _preset(name: str) -> Callable[[Context], Policy]:
    def make(context: Context) -> Policy:
        preset = choose_preset(context.rows, name)[0]
        return Port(f"port-{name}", preset_source(name, context.rows, context.table), dict(preset.planning))

    return make


def _roberta(context: Context) -> Source:
    from experiments.roberta import RobertaSource

    if not context.roberta:
        raise ValueError(
            "roberta: no trained models; run `python -m experiments train` and give its folder by --roberta"
        )
    source = RobertaSource(context.roberta)
    if context.seed is not None:
        source.check(context.seed)
    return source


TRUTHS = ("quality", "cost", "both")
PLAIN = _plain()
NAMES = tuple(PLAIN)
MAIN = tuple(name for name in NAMES if not name.startswith("roberta") and name != "port-static")
"""The main table, RoBERTa and what needs a table of its own left out."""


def make_policy(text: str, context: Context) -> Policy:
    """The policy of a name, with options after colons.

    Parameters
    ----------
    text : str
        A name out of `NAMES`, then `:option=value` any number of times. Options of the port policies are the
        fields of `routing.planning.PlanningSettings`, `settle=yes|no`, `without=cues|across|cost`,
        `landmarks=n`, `embedder=model|bytes|static`, `dimension=n`, `costs=part+part`, `words=n`,
        `neighbours=n`, and last one of `truth=quality|cost|both`, `kernel=none`, `adjust=...`,
        `stack=grid|sum` and `deviation=x` (see `experiments.linear`, `experiments.adjusted`,
        `experiments.stacked` and `experiments.uncertain`); of those with neighbours `k`, `weights`, `cost`,
        `index`, `ef`; of port-published `alpha` and `eps`.

    Raises
    ------
    ValueError
        Unknown name, option or value, or something that the policy needs was not given.
    FileNotFoundError
        Trained models or a table are not there.

    Examples
    --------
    >>> make_policy("port:resolve=geometric:k=50", Context(rows=1000)).source.k
    50
    """
    name, *rest = text.split(":")
    if name not in PLAIN:
        raise ValueError(f"policies: {name!r} is not one of {', '.join(NAMES)}")
    policy: Any = PLAIN[name](context)
    for option in rest:
        field, _, value = option.partition("=")
        try:
            policy = _with_option(policy, field, value)
        except ValueError as error:
            told = str(error)
            raise ValueError(told if told.startswith("policies") else f"policies: {text}: {told}") from None
    if isinstance(policy, Port):
        policy = replace(policy, source=_with_table(policy.source, context.table, text))
        check_planning(policy.planning, text)
    return replace(policy, name=text) if rest else policy


def _with_table(source: Any, table: str, policy: str) -> Any:
    """The source with the static table that it needs, however deep within."""
    if isinstance(base := getattr(source, "base", None), Source):
        return replace(source, base=_with_table(base, table, policy))
    if isinstance(source, RidgeSource) and source.embedder == "static" and not source.table:
        if not table:
            raise ValueError(
                f"policies: {policy} needs a static table; make one by `python -m routing fit --dataset FILE "
                "--preset static --out FOLDER` and give it by --table FOLDER/embedder"
            )
        source = replace(source, table=table)
    if isinstance(source, RidgeSource) and source.table and not Path(source.table).is_dir():
        raise FileNotFoundError(f"table: {source.table} is no folder; give FOLDER/embedder of a static fit")
    return source


def check_planning(planning: dict[str, Any], policy: str) -> None:
    """Whether a planner can be made with these settings."""
    for name, known in _KNOWN.items():
        if name in planning and planning[name] not in known:
            raise ValueError(f"policies: {policy}: {name} is one of {', '.join(known)}")
    try:
        settings = PlanningSettings(horizon=1000, **planning)
    except ValueError as error:
        raise ValueError(f"policies: {policy}: {error}") from None
    if settings.resolve == "every" and settings.mix == "remaining" and settings.solver != "newton":
        raise ValueError(f"policies: {policy}: mix=remaining needs solver=newton; take mix=recent")


_KNOWN = {
    "warmup": ("buffer", "history", "random"),
    "resolve": ("once", "geometric", "every"),
    "solver": ("exact", "newton"),
    "mix": ("recent", "remaining"),
}


def _with_option(policy: Any, field: str, value: str) -> Any:
    source = getattr(policy, "source", None)
    if isinstance(policy, Port):
        if field == "settle" and value in ("yes", "no"):
            return replace(policy, settle=value == "yes")
        if field in ("eps", "resolve_tail"):
            return replace(policy, planning={**policy.planning, field: float(value)})
        if field.startswith("resolve_"):
            return replace(policy, planning={**policy.planning, field: int(value)})
        if field in ("warmup", "resolve", "solver", "mix"):
            return replace(policy, planning={**policy.planning, field: value})
        if field == "truth" and value in TRUTHS and isinstance(source, NeighbourSource | RidgeSource):
            truth = TruthSource(source, value in ("quality", "both"), value in ("cost", "both"))
            return replace(policy, source=truth)
        if field == "adjust":
            return replace(policy, source=AdjustedSource(policy.source, value))
        if field == "stack" and value in ("grid", "sum") and isinstance(source, RidgeSource):
            return replace(policy, source=StackedSource(source, value))  # type: ignore[arg-type]
        if field == "kernel" and value == "none" and isinstance(source, RidgeSource):
            return replace(policy, source=LinearSource(source))
        if field == "deviation" and isinstance(source, RidgeSource):
            return replace(policy, source=UncertainSource(source, float(value)))
    if isinstance(policy, PortPublished) and field in ("alpha", "eps"):
        return _changed(policy, field, float(value))
    if isinstance(source, NeighbourSource) and field in ("k", "weights", "cost", "index", "ef"):
        return replace(policy, source=_changed(source, field, int(value) if field in ("k", "ef") else value))
    if isinstance(source, RidgeSource):
        return replace(policy, source=_ridge_option(source, field, value))
    raise ValueError(f"policies: {policy.name} has no option {field}={value}")


def _ridge_option(source: RidgeSource, field: str, value: str) -> RidgeSource:
    if field == "without":
        return without(source, value)
    if field in ("words", "neighbours"):
        return replace(source, ridge=_changed(source.ridge, field, int(value)))
    if field == "landmarks":
        return replace(source, ridge=replace(source.ridge, landmarks=int(value) or None))
    if field == "costs":
        return replace(source, ridge=replace(source.ridge, cost_parts=tuple(value.split("+"))))
    if field in ("embedder", "table"):
        changed: RidgeSource = _changed(source, field, value)
        return changed
    if field == "dimension":
        return replace(source, dimension=int(value))
    raise ValueError(f"policies: the kernel estimator has no option {field}={value}")


def _changed(thing: Any, field: str, value: object) -> Any:
    return replace(thing, **{field: value})
