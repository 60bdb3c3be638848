"""Price origin: the samples and the solver behind the prices of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class PriceOrigin:
    """Origin of a plan's prices, for people and for the next planner.

    The fields are the keys of `solved_from` in plan messages, in this order.

    Parameters
    ----------
    base : int
        Queries of the period that were decided before the planner began to count samples.
    samples_from : int, optional
        Offset of the period's first sample in the topic of samples; None until the plan is published.
    period : int
        Period in which the planner began to count samples.
    observed : int
        Samples counted at the last solve; 0 before the first.
    rows : int
        Rows of the linear program, including rows of the history.
    mean_cost : tuple of float, length M, optional
        Picodollars per query. Missing in plans of older versions.
    from_samples : bool
        Whether the prices in force were learned from queries, in this period or an earlier one.
    solver, warmup : str, optional
        Settings of the planner that made the plan.
    warmup_seconds : float, optional
        Longest wait for prices after the first sample; only in plans made before a period's first solve.
    """

    base: int = 0
    samples_from: int | None = None
    period: int = 0
    observed: int = 0
    rows: int = 0
    mean_cost: tuple[float, ...] | None = None
    from_samples: bool = False
    solver: str | None = None
    warmup: str | None = None
    warmup_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain data of a plan message; empty for a plan that no planner has started yet.

        Examples
        --------
        >>> PriceOrigin().to_dict()
        {}
        >>> PriceOrigin(mean_cost=(1.0,), solver="exact", warmup="buffer").to_dict()["samples_from"] is None
        True
        """
        if self == PriceOrigin():
            return {}
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.mean_cost is not None:
            data["mean_cost"] = list(self.mean_cost)
        optional = ("mean_cost", "solver", "warmup", "warmup_seconds")
        return {name: value for name, value in data.items() if value is not None or name not in optional}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PriceOrigin:
        """Return the origin that `to_dict` wrote, here or in another version; unknown keys are ignored."""
        values = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        if values.get("mean_cost") is not None:
            values["mean_cost"] = tuple(values["mean_cost"])
        return cls(**values)
