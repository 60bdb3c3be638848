"""Result of a chaos campaign or of one of its rounds."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

PHASES = ("warm-up", "routing", "re-solving", "settlement", "roll-over")
MAIN = ("missing", "twice", "overspent", "ledger_differs")
BROKER_KINDS = ("broker", "broker_and_worker")
"""Faults during which a broker is down."""


@dataclass
class Result:
    """Result of a campaign or a round."""

    faults: int = 0
    queries: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    recoveries: list[tuple[str, float]] = field(default_factory=list)
    """Kind of each fault and the seconds until the router had recovered from it."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """True if every invariant holds and the router recovered from every fault."""
        return not self.counts and not self.broken

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the line that `make chaos` prints."""
        return {
            "faults": self.faults,
            "queries": self.queries,
            **{name: self.counts[name] for name in MAIN},
            "seconds_to_recover_p50": _rounded(statistics.median, self.seconds()),
            "seconds_to_recover_max": _rounded(max, self.seconds()),
            "seconds_to_recover_p50_without_brokers": _rounded(statistics.median, self.seconds(BROKER_KINDS)),
            "fine": self.fine,
            "phases": {phase: self.phases[phase] for phase in PHASES},
            "kinds": dict(self.kinds),
        }

    def seconds(self, without: Collection[str] = ()) -> list[float]:
        """Return the seconds of recovery from all faults, apart from those of some kinds."""
        return [seconds for kind, seconds in self.recoveries if kind not in without]

    def phases_below(self, minimum: int) -> list[str]:
        """Return the phases that fewer than `minimum` faults met."""
        return [phase for phase in PHASES if self.phases[phase] < minimum]

    def details(self) -> dict[str, Any]:
        """Return all fields, for `of` to read."""
        return {
            "faults": self.faults,
            "queries": self.queries,
            "counts": dict(self.counts),
            "kinds": dict(self.kinds),
            "phases": dict(self.phases),
            "recoveries": [(kind, round(seconds, 2)) for kind, seconds in self.recoveries],
            "rounds": self.rounds,
            "broken": self.broken,
        }

    @classmethod
    def of(cls, details: dict[str, Any]) -> Result:
        """Rebuild a result from its `details`."""
        counters = {name: Counter(details[name]) for name in ("counts", "kinds", "phases")}
        return cls(**{**details, **counters})


def add(total: Result, part: Result) -> None:
    """Add the result of a round to the total."""
    total.faults += part.faults
    total.queries += part.queries
    for name in ("counts", "kinds", "phases"):
        getattr(total, name).update(getattr(part, name))
    total.recoveries += part.recoveries
    total.rounds += part.rounds
    total.broken += part.broken


def _rounded(statistic: Callable[[list[float]], float], values: list[float]) -> float | None:
    return round(statistic(values), 1) if values else None
