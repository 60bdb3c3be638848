"""Result of an audit: counts of queries, violations of invariants, and real spending above budgets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from streams.ledger.overspending import Overspending, worst_first

KINDS = {
    "missing": "a decided query is on no topic, or a query was not decided although all should be",
    "deleted": "records were deleted before they were read; transaction markers count as offsets",
    "twice": "a query is on more than one topic, or more than once",
    "moved": "a query is on another topic, or has another id, than its decision says",
    "altered": "key, headers or content of a query differ from the input",
    "foreign": "an output belongs to no query",
    "position": "a ledger's `next` is not the offset after its lane's last decision",
    "ledger_differs": "a ledger is not the sum of the output topics",
    "settlement": "an outcome was not processed exactly once, or was recorded with other values",
    "overspent": "reservations exceeded the budget of a period",
    "beyond_bound": "real spending exceeded the budget of a period, although reserve=bound",
    "rights": "a lane charged more than it was granted, or more was granted than there is",
    "bill": "a bill differs from the topics, or from the events of budgets, or is still open",
    "plans": "plans contradict each other, or queries were not routed by them",
    "samples": "a query was sampled twice, or a batch has more samples than queries",
}
"""Kinds of violations with their meaning, in the order in which people read them."""

MAX_SHOWN = 20
"""Violations of each kind that are listed; further ones are only counted."""


@dataclass
class Findings:
    """Findings of an audit.

    Parameters
    ----------
    queries : int
        On the topic of queries.
    served, unserved, dead : int
        Queries by final topic.
    deferred : int
        Queries that passed through the overflow lane; they are counted above, too.
    waiting : int
        Queries that are not decided yet.
    forwarded : int
        Copies on added partitions of queries that `topics forward` put on the router's partitions.
    unread : int
        Queries on partitions that were added to the topic of queries, and not forwarded from there.
    overdrawn_pico : int
        Picodollars that settled queries cost above their reservations. With `reserve=estimate` spending can
        exceed the budget by this amount, which is deducted from later grants.
    overspending : list of Overspending
        LLMs whose real cost is above their budget. With `reserve=estimate` these are not violations.
    compared : bool
        Charges were compared with budgets.
    counts : Counter
        Violations by kind.
    examples : dict of str to list of str
        First violations of each kind.
    notes : list of str
        Limits of the check, for people.
    """

    queries: int = 0
    served: int = 0
    unserved: int = 0
    dead: int = 0
    deferred: int = 0
    waiting: int = 0
    forwarded: int = 0
    unread: int = 0
    overdrawn_pico: int = 0
    overspending: list[Overspending] = field(default_factory=list)
    compared: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, text: str) -> None:
        """Record a violation."""
        assert kind in KINDS
        self.counts[kind] += 1
        shown = self.examples.setdefault(kind, [])
        if len(shown) < MAX_SHOWN:
            shown.append(text)

    @property
    def fine(self) -> bool:
        """The audit found no violation."""
        return not self.counts

    def to_dict(self) -> dict[str, Any]:
        """Return counts of queries, counts of violations by kind, and the listed violations."""
        return {
            "fine": self.fine,
            "queries": self.queries,
            "served": self.served,
            "unserved": self.unserved,
            "dead": self.dead,
            "deferred": self.deferred,
            "waiting": self.waiting,
            "forwarded": self.forwarded,
            "unread": self.unread,
            "overdrawn_usd": self.overdrawn_pico / 1e12,
            "real_spending": [case.to_dict() for case in worst_first(self.overspending)],
            **{kind: self.counts[kind] for kind in KINDS},
            "violations": self.examples,
            "notes": self.notes,
        }

    def text(self) -> str:
        """Return the findings as text for people."""
        lines = [
            f"{self.queries} queries: {self.served} on an LLM's topic, {self.unserved} unserved, "
            f"{self.dead} dead letters, {self.waiting} not decided yet; "
            f"{self.deferred} went through the overflow lane"
        ]
        if self.forwarded:
            lines.append(f"{self.forwarded} of them were forwarded from added partitions")
        if self.unread:
            lines.append(
                f"{self.unread} queries on added partitions are not forwarded; "
                'see "More partitions" in docs/operations.md'
            )
        if self.overdrawn_pico:
            lines.append(f"settled queries cost {self.overdrawn_pico / 1e12:.6g} USD more than they reserved")
        lines += [f"note: {text}" for text in self.notes]
        for kind, meaning in KINDS.items():
            if count := self.counts[kind]:
                lines.append(f"BROKEN {kind} ({count}): {meaning}")
                lines += [f"  {text}" for text in self.examples[kind]]
                lines += [f"  and {count - MAX_SHOWN} more"] * (count > MAX_SHOWN)
        lines += self._spending()
        lines.append(self._conclusion())
        return "\n".join(lines)

    def _conclusion(self) -> str:
        if not self.fine:
            return f"{self.counts.total()} violations"
        if self.overspending:
            return "every invariant holds, but real spending exceeded budgets, which reserve=estimate allows"
        return "every invariant holds"

    def _spending(self) -> list[str]:
        """Return lines about reservations, which never exceed a budget, and real spending, which may."""
        lines = []
        if self.compared and not self.counts["overspent"]:
            lines.append("reservations never exceeded the budget: holds")
        for case in worst_first(self.overspending)[:MAX_SHOWN]:
            lines.append(f"OVERSPENT in period {case.period}: {case.text()}")
        lines += [f"  and {len(self.overspending) - MAX_SHOWN} more"] * (len(self.overspending) > MAX_SHOWN)
        if self.overspending:
            lines.append('  see "BudgetOverspent" in docs/operations.md for what to do')
        return lines
