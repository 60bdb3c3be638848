"""The report of a replay, as JSON and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producers.evaluation.accounting import Placements, ReplayScore
from producers.evaluation.baselines import BaselineScore
from producers.evaluation.budgets import over_periods, total_money
from streams.operations.console_table import table_lines

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Report:
    """Result of a replay.

    Parameters
    ----------
    models : sequence of str, length M
    placements : Placements
    score : ReplayScore
    latencies : dict
        Arrays of seconds, as `producers.evaluation.accounting.latencies`.
    delivery_errors : sequence of str
        Reason for each query that was not delivered.
    produce_seconds, total_seconds : float
        Time until all queries were sent, and until the last was found.
    baselines : dict of str to BaselineScore
    best_single : str
        The LLM of the baseline of this name.
    budget_form : str
        Description of the budgets.
    run : dict
        Data, options and settings of the replay.
    warnings : sequence of str
        Settings that worsen the result.
    """

    models: Sequence[str]
    placements: Placements
    score: ReplayScore
    latencies: dict[str, NDArray[np.float64]]
    delivery_errors: Sequence[str]
    produce_seconds: float
    total_seconds: float
    baselines: dict[str, BaselineScore]
    best_single: str
    budget_form: str
    run: dict[str, Any]
    warnings: Sequence[str] = ()

    @property
    def relative(self) -> float | None:
        """Performance in per cent of the approximate optimum; None if that is unknown."""
        optimum = self.baselines.get("approx-optimum")
        if optimum is None or optimum.performance <= 0:
            return None
        return 100 * self.score.outcome.performance / optimum.performance

    @property
    def budget(self) -> float:
        """USD that all LLMs together can spend, over all periods."""
        return total_money(over_periods(self.score.counters, self.score.periods))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; money in USD, latencies in milliseconds, `relative` in per cent."""
        placements, score = self.placements, self.score
        outcome = score.outcome
        return {
            "queries": placements.queries,
            "served": placements.served,
            "unserved": placements.unserved,
            "dead": placements.dead,
            "missing": len(placements.missing),
            "twice": len(placements.twice),
            "over_budget": len(score.over_budget),
            "performance": outcome.performance,
            "cost": outcome.cost,
            "budget": self.budget,
            "budget_form": self.budget_form,
            "relative": self.relative,
            "latency_ms": percentiles(self.latencies["read"]),
            "latency_by_timestamps_ms": percentiles(self.latencies["written"]),
            "throughput": outcome.throughput,
            "lost": score.lost,
            "efficiency": outcome.performance / outcome.cost if outcome.cost else None,
            "periods": score.periods,
            "delivery_errors": len(self.delivery_errors),
            "foreign": len(placements.foreign),
            "produced_per_second": per_second(placements.queries, self.produce_seconds),
            "accounted_per_second": per_second(
                placements.queries - len(placements.missing), self.total_seconds
            ),
            "seconds": self.total_seconds,
            "by_llm": {
                name: {
                    "queries": int(score.sent[i]),
                    "spent": float(outcome.spent[i]),
                    "reserved": float(score.reserved[i]),
                }
                for i, name in enumerate(self.models)
            },
            "by_budget": {
                name: {"spent": float(score.spent[column]), "limit": float(score.limits[column])}
                for column, name in enumerate(score.counters.names)
            },
            "baselines": {name: asdict(baseline) for name, baseline in self.baselines.items()},
            "best_single": self.best_single,
            "examples": {
                "missing": placements.missing[:10],
                "twice": placements.twice[:10],
                "over_budget": score.over_budget,
            },
            "run": self.run,
            "warnings": list(self.warnings),
        }

    @property
    def problems(self) -> list[str]:
        """Violations of what the router promises, as sentences."""
        placements = self.placements
        counts = [
            (
                len(self.delivery_errors),
                f"were not delivered ({self.delivery_errors[-1] if self.delivery_errors else ''})",
            ),
            (len(placements.missing), "are missing"),
            (len(placements.twice), "are duplicated"),
        ]
        problems = [f"{count} queries {violation}" for count, violation in counts if count]
        if self.score.over_budget:
            problems.append(f"charges exceed the budget of {', '.join(self.score.over_budget)}")
        return problems

    def text(self) -> str:
        """Return the report as text."""
        return "\n".join(
            [
                *self._placements(),
                "",
                *self._comparison(),
                "",
                *self._spend(),
                "",
                *self._speed(),
                *self._used(),
            ]
        )

    def _placements(self) -> list[str]:
        placements = self.placements
        lines = [
            f"{placements.queries} queries: {placements.served} on an LLM's topic, "
            f"{placements.unserved} unserved, {placements.dead} dead letters; "
            f"{len(placements.missing)} missing, {len(placements.twice)} twice",
            f"budgets: {self.budget_form}",
        ]
        if self.score.lost:
            lines.append(
                f"{self.score.lost} routed queries count for nothing: their true cost exceeded a budget"
            )
        lines += [f"PROBLEM: {text}" for text in self.problems]
        return lines + [f"warning: {text}" for text in self.warnings]

    def _comparison(self) -> list[str]:
        outcome, optimum = self.score.outcome, self.baselines.get("approx-optimum")
        own = BaselineScore(outcome.performance, outcome.cost, outcome.throughput)
        rows = []
        for name, score in {"this router": own, **self.baselines}.items():
            relative = "-"
            if optimum is not None and optimum.performance > 0:
                relative = f"{100 * score.performance / optimum.performance:.1f} %"
            efficiency = f"{score.performance / score.cost:.0f}" if score.cost else "-"
            figures = (f"{score.performance:.1f}", relative, f"{score.cost:.6f}", efficiency)
            rows.append((name, *figures, f"{score.throughput:.0f}"))
        lines = table_lines(("", "performance", "relative", "cost USD", "per USD", "served"), rows)
        return [*lines, f"best-single is {self.best_single}; random is the mean of several draws"]

    def _spend(self) -> list[str]:
        score, spent = self.score, self.score.outcome.spent
        if score.counters.is_per_llm:
            rows = [
                (name, str(score.sent[i]), *_spend_cells(spent[i], score.limits[i]))
                for i, name in enumerate(self.models)
            ]
            total = ("all", str(score.sent.sum()), *_spend_cells(spent.sum(), score.limits.sum()))
            return table_lines(("LLM", "queries", "spent USD", "budget USD", "used"), [*rows, total])
        by_llm = [(name, str(score.sent[i]), f"{spent[i]:.6f}") for i, name in enumerate(self.models)]
        by_llm.append(("all", str(score.sent.sum()), f"{spent.sum():.6f}"))
        by_budget = [
            (name, *_spend_cells(score.spent[column], score.limits[column]))
            for column, name in enumerate(score.counters.names)
        ]
        return [
            *table_lines(("LLM", "queries", "spent USD"), by_llm),
            "",
            *table_lines(("budget", "spent USD", "limit USD", "used"), by_budget),
        ]

    def _speed(self) -> list[str]:
        latencies = percentiles(self.latencies["read"])
        figures = ", ".join(f"{name} {value:.0f} ms" for name, value in latencies.items()) or "unknown"
        return [
            f"latency from produce to committed read: {figures}",
            f"{self.placements.queries} queries produced in {self.produce_seconds:.1f} s "
            f"({per_second(self.placements.queries, self.produce_seconds):.0f}/s), all accounted for after "
            f"{self.total_seconds:.1f} s",
        ]

    def _used(self) -> list[str]:
        data, settings = self.run.get("data", {}), self.run.get("settings", {})
        if "preset" not in settings:
            return []
        fit = f" ({data['fit']})" if "fit" in data else ""
        torch = "with" if self.run.get("torch") else "without"
        return [f"preset {settings['preset']}{fit}; {self.run.get('machine')}, {torch} torch"]


def percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds; empty if nothing was measured.

    Examples
    --------
    >>> percentiles(np.array([0.001, 0.002, 0.003]))["p50"]
    2.0
    """
    if not len(seconds):
        return {}
    milliseconds = np.percentile(seconds, PERCENTILES) * 1000
    return {f"p{rank}": round(float(value), 3) for rank, value in zip(PERCENTILES, milliseconds, strict=True)}


def per_second(count: int, seconds: float) -> float:
    """Return a rate; zero if no time has passed."""
    return count / seconds if seconds > 0 else 0.0


def _spend_cells(spent: float, limit: float) -> tuple[str, str, str]:
    return f"{spent:.6f}", f"{limit:.6f}", f"{100 * spent / limit:.0f} %" if limit else "-"
