"""The policies by their names on the command line: `port-best`, `port:resolve=geometric:k=50`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.cases import EstimateSource
from experiments.estimates.sources import (
    NeighbourSource,
    RidgeSource,
    TruthSource,
    preset_source,
    without,
)
from experiments.estimates.tried.adjusted import AdjustedSource
from experiments.estimates.tried.linear import LinearSource
from experiments.estimates.tried.stacked import StackedSource
from experiments.estimates.tried.uncertain import UncertainSource
from experiments.policies.base import Policy
from experiments.policies.oracles import Offline
from experiments.policies.port import Port, PortPublished
from experiments.policies.simple import BatchSplit, GreedyBudget, GreedyQuality, Random, Single
from routing.fitting.presets import PRESETS, choose_preset
from routing.planning.schedule import PlanningSettings

HNSW = NeighbourSource(index="hnsw", own=False)
EXACT = NeighbourSource()
PAPER = {"warmup": "buffer", "resolve": "once", "solver": "exact", "top_up_samples": False}
REFERENCE = "approx-optimum"
"""Policy whose performance is 100 in the column `relative`."""


@dataclass(frozen=True)
class Context:
    """Inputs for making a policy, besides its name.

    Parameters
    ----------
    rows : int
        Length of the history.
    table : str
        Folder of a static table, for `port-static`.
    roberta : str
        Folder of trained RoBERTa models, for `roberta-perf` and `roberta-cost`.
    seed : int, optional
        Seed of the split. If given, the trained models of that seed must exist.
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


def _roberta(context: Context) -> EstimateSource:
    from experiments.estimates.roberta import RobertaSource

    if not context.roberta:
        raise ValueError(
            "roberta: no trained models; run `python -m experiments train` and pass its folder with --roberta"
        )
    source = RobertaSource(context.roberta)
    if context.seed is not None:
        source.check(context.seed)
    return source


TRUTHS = ("quality", "cost", "both")
PLAIN = _plain()
NAMES = tuple(PLAIN)
MAIN = tuple(name for name in NAMES if not name.startswith("roberta") and name != "port-static")
"""Policies of the main table: all that need neither trained models nor a static table."""


def make_policy(text: str, context: Context) -> Policy:
    """Make the policy of a name with options after colons.

    Parameters
    ----------
    text : str
        One of `NAMES`, followed by any number of `:option=value`.

        - Port policies: the fields of `routing.planning.planner.PlanningSettings`
          (`top_up_samples=yes|no`), `settle=yes|no`, `prices=each|one` (with groups), `exploration=share`,
          `exploration_budget=share`,
          `without=cues|across|cost`, `landmarks=n`,
          `embedder=model|bytes|static`, `dimension=n`, `costs=part+part`, `words=n`, `neighbours=n`, and as
          the last option one of `truth=quality|cost|both`, `kernel=none`, `adjust=...`, `stack=grid|sum`
          and `deviation=x` (see the modules of `experiments.estimates.tried`).
        - Policies with neighbours: `k`, `weights`, `cost`, `index`, `ef`.
        - `port-published`: `alpha`, `eps`.

    Raises
    ------
    ValueError
        Unknown name, option or value, or the policy needs a table or trained models that were not given.
    FileNotFoundError
        Trained models or a table are missing.

    Examples
    --------
    >>> make_policy("port:resolve=geometric:k=50", Context(rows=1000)).source.k
    50
    """
    name, *options = text.split(":")
    if name not in PLAIN:
        raise ValueError(f"policies: {name!r} is not one of {', '.join(NAMES)}")
    policy: Any = PLAIN[name](context)
    for option in options:
        field, _, value = option.partition("=")
        try:
            policy = _with_option(policy, field, value)
        except ValueError as error:
            message = str(error)
            if not message.startswith("policies"):
                message = f"policies: {text}: {message}"
            raise ValueError(message) from None
    if isinstance(policy, Port):
        policy = replace(policy, source=_with_table(policy.source, context.table, text))
        check_planning(policy.planning, text)
    return replace(policy, name=text) if options else policy


def _with_table(source: Any, table: str, policy: str) -> Any:
    """Give a source, or the source it is based on, the static table that it needs."""
    if isinstance(base := getattr(source, "base", None), EstimateSource):
        return replace(source, base=_with_table(base, table, policy))
    if isinstance(source, RidgeSource) and source.embedder == "static" and not source.table:
        if not table:
            raise ValueError(
                f"policies: {policy} needs a static table; make one with `python -m routing fit "
                "--dataset FILE --preset static --out FOLDER` and pass --table FOLDER/embedder"
            )
        source = replace(source, table=table)
    if isinstance(source, RidgeSource) and source.table and not Path(source.table).is_dir():
        raise FileNotFoundError(
            f"table: {source.table} is not a folder; give FOLDER/embedder of a static fit"
        )
    return source


def check_planning(planning: dict[str, Any], policy: str) -> None:
    """Check that a planner accepts these settings."""
    for name, values in _PLANNING_VALUES.items():
        if name in planning and planning[name] not in values:
            raise ValueError(f"policies: {policy}: {name} is one of {', '.join(values)}")
    try:
        settings = PlanningSettings(horizon=1000, **planning)
    except ValueError as error:
        raise ValueError(f"policies: {policy}: {error}") from None
    if settings.resolve == "every" and settings.mix == "remaining" and settings.solver != "newton":
        raise ValueError(f"policies: {policy}: mix=remaining needs solver=newton; or use mix=recent")


_PLANNING_VALUES = {
    "warmup": ("buffer", "history", "random"),
    "resolve": ("once", "geometric", "every"),
    "solver": ("exact", "newton"),
    "mix": ("recent", "remaining"),
}


def _with_option(policy: Any, field: str, value: str) -> Any:
    source = getattr(policy, "source", None)
    if isinstance(policy, Port):
        if field == "prices" and value in ("one", "each"):
            return replace(policy, one_price=value == "one")
        if field == "settle" and value in ("yes", "no"):
            return replace(policy, settle=value == "yes")
        if field in ("exploration", "exploration_budget"):
            return _with_field(policy, field, float(value))
        if field in ("eps", "resolve_tail"):
            return replace(policy, planning={**policy.planning, field: float(value)})
        if field == "top_up_samples" and value in ("yes", "no"):
            return replace(policy, planning={**policy.planning, field: value == "yes"})
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
        return _with_field(policy, field, float(value))
    if isinstance(source, NeighbourSource) and field in ("k", "weights", "cost", "index", "ef"):
        return replace(
            policy, source=_with_field(source, field, int(value) if field in ("k", "ef") else value)
        )
    if isinstance(source, RidgeSource):
        return replace(policy, source=_ridge_option(source, field, value))
    raise ValueError(f"policies: {policy.name} has no option {field}={value}")


def _ridge_option(source: RidgeSource, field: str, value: str) -> RidgeSource:
    if field == "without":
        return without(source, value)
    if field in ("words", "neighbours"):
        return replace(source, ridge=_with_field(source.ridge, field, int(value)))
    if field == "landmarks":
        return replace(source, ridge=replace(source.ridge, landmarks=int(value) or None))
    if field == "costs":
        return replace(source, ridge=replace(source.ridge, cost_parts=tuple(value.split("+"))))
    if field in ("embedder", "table"):
        changed: RidgeSource = _with_field(source, field, value)
        return changed
    if field == "dimension":
        return replace(source, dimension=int(value))
    raise ValueError(f"policies: the kernel estimator has no option {field}={value}")


def _with_field(instance: Any, field: str, value: object) -> Any:
    return replace(instance, **{field: value})
