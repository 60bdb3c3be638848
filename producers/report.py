"""A replay's result, as JSON and for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producers.accounting import Achieved, Places
from producers.comparing import Reached

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Report:
    """All that is known about a replay.

    Parameters
    ----------
    models : sequence of str, length M
    places : Places
    achieved : Achieved
    latencies : dict
        Arrays of seconds, as `producers.accounting.latencies`.
    delivery_errors : sequence of str
        The reason of each query that was not delivered.
    produce_seconds, total_seconds : float
        How long sending took, and how long until the last query was accounted for.
    baselines : dict of str to Reached
    best_single : str
        The LLM that the baseline of this name takes.
    run : dict
        What was replayed and how.
    """

    models: Sequence[str]
    places: Places
    achieved: Achieved
    latencies: dict[str, NDArray[np.float64]]
    delivery_errors: Sequence[str]
    produce_seconds: float
    total_seconds: float
    baselines: dict[str, Reached]
    best_single: str
    run: dict[str, Any]

    @property
    def relative(self) -> float | None:
        """Performance in per cent of the approximate optimum's; None where that is not known."""
        optimum = self.baselines.get("approx-optimum")
        if optimum is None or optimum.performance <= 0:
            return None
        return 100 * self.achieved.outcome.performance / optimum.performance

    def to_dict(self) -> dict[str, Any]:
        """As plain data; money in USD, latencies in milliseconds, `relative` in per cent."""
        places, achieved = self.places, self.achieved
        outcome = achieved.outcome
        return {
            "queries": places.queries,
            "served": places.served,
            "unserved": places.unserved,
            "dead": places.dead,
            "missing": len(places.missing),
            "twice": len(places.twice),
            "over_budget": len(achieved.over_budget),
            "performance": outcome.performance,
            "cost": outcome.cost,
            "budget": float(achieved.budgets.sum()),
            "relative": self.relative,
            "latency_ms": percentiles(self.latencies["read"]),
            "latency_by_timestamps_ms": percentiles(self.latencies["written"]),
            "throughput": outcome.throughput,
            "lost": achieved.lost,
            "efficiency": outcome.performance / outcome.cost if outcome.cost else None,
            "periods": achieved.periods,
            "delivery_errors": len(self.delivery_errors),
            "foreign": len(places.foreign),
            "produced_per_second": per_second(places.queries, self.produce_seconds),
            "accounted_per_second": per_second(places.queries - len(places.missing), self.total_seconds),
            "seconds": self.total_seconds,
            "by_llm": {
                name: {
                    "queries": int(achieved.sent[i]),
                    "spent": float(outcome.spent[i]),
                    "reserved": float(achieved.reserved[i]),
                    "budget": float(achieved.budgets[i]),
                }
                for i, name in enumerate(self.models)
            },
            "baselines": {name: asdict(reached) for name, reached in self.baselines.items()},
            "best_single": self.best_single,
            "examples": {
                "missing": places.missing[:10],
                "twice": places.twice[:10],
                "over_budget": achieved.over_budget,
            },
            "run": self.run,
        }

    @property
    def problems(self) -> list[str]:
        """What must not happen, and did."""
        places = self.places
        found = [
            (
                len(self.delivery_errors),
                f"were not delivered ({self.delivery_errors[-1] if self.delivery_errors else ''})",
            ),
            (len(places.missing), "are nowhere"),
            (len(places.twice), "are there twice"),
        ]
        told = [f"{count} queries {what}" for count, what in found if count]
        if self.achieved.over_budget:
            told.append(f"more than the budget was charged for {', '.join(self.achieved.over_budget)}")
        return told

    def text(self) -> str:
        """For people."""
        return "\n".join([*self._places(), "", *self._comparison(), "", *self._spend(), "", *self._speed()])

    def _places(self) -> list[str]:
        places = self.places
        lines = [
            f"{places.queries} queries: {places.served} on an LLM's topic, {places.unserved} unserved, "
            f"{places.dead} dead letters; {len(places.missing)} missing, {len(places.twice)} twice"
        ]
        if self.achieved.lost:
            lines.append(
                f"{self.achieved.lost} of the routed were lost: their true cost no longer fitted the budget"
            )
        return lines + [f"PROBLEM: {text}" for text in self.problems]

    def _comparison(self) -> list[str]:
        outcome, optimum = self.achieved.outcome, self.baselines.get("approx-optimum")
        own = Reached(outcome.performance, outcome.cost, outcome.throughput)
        lines = [f"{'':<28}{'performance':>12}{'relative':>10}{'cost USD':>12}{'per USD':>11}{'served':>8}"]
        for name, reached in {"this router": own, **self.baselines}.items():
            relative = "-"
            if optimum is not None and optimum.performance > 0:
                relative = f"{100 * reached.performance / optimum.performance:.1f} %"
            efficiency = f"{reached.performance / reached.cost:.0f}" if reached.cost else "-"
            lines.append(
                f"{name:<28}{reached.performance:>12.1f}{relative:>10}{reached.cost:>12.6f}"
                f"{efficiency:>11}{reached.throughput:>8.0f}"
            )
        return [*lines, f"best-single is {self.best_single}; random is a mean over draws"]

    def _spend(self) -> list[str]:
        achieved, outcome = self.achieved, self.achieved.outcome
        width = max(len(name) for name in self.models) + 2
        lines = [f"{'LLM':<{width}}{'queries':>8}{'spent USD':>12}{'budget USD':>12}{'used':>7}"]
        for i, name in enumerate(self.models):
            lines.append(_spend_line(name, width, achieved.sent[i], outcome.spent[i], achieved.budgets[i]))
        total = _spend_line("all", width, achieved.sent.sum(), outcome.spent.sum(), achieved.budgets.sum())
        return [*lines, total]

    def _speed(self) -> list[str]:
        found = percentiles(self.latencies["read"])
        figures = ", ".join(f"{name} {value:.0f} ms" for name, value in found.items()) or "unknown"
        return [
            f"latency from produce to committed read: {figures}",
            f"{self.places.queries} queries produced in {self.produce_seconds:.1f} s "
            f"({per_second(self.places.queries, self.produce_seconds):.0f}/s), all accounted for after "
            f"{self.total_seconds:.1f} s",
        ]


def percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds; empty where nothing was measured.

    Examples
    --------
    >>> percentiles(np.array([0.001, 0.002, 0.003]))["p50"]
    2.0
    """
    if not len(seconds):
        return {}
    found = np.percentile(seconds, PERCENTILES) * 1000
    return {f"p{rank}": round(float(value), 3) for rank, value in zip(PERCENTILES, found, strict=True)}


def per_second(count: int, seconds: float) -> float:
    """A rate; zero where no time has passed."""
    return count / seconds if seconds > 0 else 0.0


def _spend_line(name: str, width: int, queries: int, spent: float, budget: float) -> str:
    used = f"{100 * spent / budget:.0f} %" if budget else "-"
    return f"{name:<{width}}{queries:>8}{spent:>12.6f}{budget:>12.6f}{used:>7}"
