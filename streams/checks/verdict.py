"""What the checker found: how many queries are where, and everything that is not as it must be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "missing": "a query is on no topic, though it was decided or all should be",
    "twice": "a query is on more than one topic, or more than once",
    "moved": "a query is on another topic, or under another id, than it was decided for",
    "altered": "key, headers or content of a query are not what came in",
    "foreign": "an output that no query led to",
    "position": "a ledger's `next` is not where its lane's decisions end",
    "ledger_differs": "a ledger is not the sum of the output topics",
    "settlement": "an outcome was not taken in exactly once, or not as it says",
    "overspent": "more was charged than the budget of a period",
    "rights": "a lane charged more than it was granted, or more was granted than there is",
    "bill": "a bill is not what the topics come to, or not closed when its period is over",
    "plans": "plans contradict each other, or queries were not routed by them",
    "samples": "a query was sampled twice, or samples are not one for each query",
}
"""What can be wrong, in the order in which it is told."""

SHOWN = 20
"""Violations of each kind that are told one by one; the others are counted."""


@dataclass
class Verdict:
    """The checker's findings.

    Parameters
    ----------
    queries : int
        On the topic of queries.
    served, unserved, dead : int
        Queries where they ended.
    deferred : int
        Of those, how many came through the overflow lane.
    waiting : int
        Not decided yet.
    overdrawn_pico : int
        Picodollars that settled queries cost beyond what was reserved for them: with `reserve=estimate` the
        budget can be exceeded by so much; it is held against the next grants.
    counts : Counter
        Violations by kind.
    told : dict of str to list of str
        The first of each kind.
    notes : list of str
        What could not be checked, or should be known.
    """

    queries: int = 0
    served: int = 0
    unserved: int = 0
    dead: int = 0
    deferred: int = 0
    waiting: int = 0
    overdrawn_pico: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    told: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, text: str) -> None:
        """A violation."""
        assert kind in KINDS
        self.counts[kind] += 1
        shown = self.told.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(text)

    @property
    def fine(self) -> bool:
        """Nothing is broken."""
        return not self.counts

    def to_dict(self) -> dict[str, Any]:
        """As plain data: counts of queries, of violations by kind, and the violations."""
        return {
            "fine": self.fine,
            "queries": self.queries,
            "served": self.served,
            "unserved": self.unserved,
            "dead": self.dead,
            "deferred": self.deferred,
            "waiting": self.waiting,
            "overdrawn_usd": self.overdrawn_pico / 1e12,
            **{kind: self.counts[kind] for kind in KINDS},
            "violations": self.told,
            "notes": self.notes,
        }

    def text(self) -> str:
        """For people."""
        lines = [
            f"{self.queries} queries: {self.served} on an LLM's topic, {self.unserved} unserved, "
            f"{self.dead} dead letters, {self.waiting} not decided yet; "
            f"{self.deferred} went through the overflow lane"
        ]
        if self.overdrawn_pico:
            lines.append(
                f"settled queries cost {self.overdrawn_pico / 1e12:.6g} USD beyond what they reserved"
            )
        lines += [f"note: {text}" for text in self.notes]
        for kind, meaning in KINDS.items():
            if count := self.counts[kind]:
                lines.append(f"BROKEN {kind} ({count}): {meaning}")
                lines += [f"  {text}" for text in self.told[kind]]
                lines += [f"  and {count - SHOWN} more"] * (count > SHOWN)
        lines.append("every invariant holds" if self.fine else f"{self.counts.total()} violations")
        return "\n".join(lines)
