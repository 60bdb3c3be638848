"""Comparison of a shadow's decisions with those in force, joined by partition and offset of the query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.scanner import Scanner
from streams.messages.decision import decode_decision
from streams.messages.routing_info import RoutingInfo
from streams.operations.console_table import table_lines

Place = tuple[int, int]
"""Partition and offset of a query."""

UNSERVED = "(unserved)"


@dataclass
class Side:
    """Totals of one router: the one in force, or its shadow.

    Parameters
    ----------
    served : int
        Queries with an LLM.
    quality, cost : float
        Sums of expected quality and of USD over them, by this router's own estimates.
    by_shadow : list of float
        The same sums by the shadow's estimates, over queries whose LLM the shadow knows.
    """

    served: int = 0
    quality: float = 0.0
    cost: float = 0.0
    by_shadow: list[float] = field(default_factory=lambda: [0.0, 0.0])


@dataclass
class ShadowReport:
    """A shadow's decisions beside those in force.

    Parameters
    ----------
    decided : int
        Queries that the shadow decided.
    compared : int
        Those whose decision in force the topics still have.
    agreed : int
        Those with the same LLM, or both without one.
    in_force, shadow : Side
    by_llm : dict of str to list of int
        Queries in force, of the shadow, and of both, by LLM.
    """

    decided: int = 0
    compared: int = 0
    agreed: int = 0
    in_force: Side = field(default_factory=Side)
    shadow: Side = field(default_factory=Side)
    by_llm: dict[str, list[int]] = field(default_factory=dict)

    @property
    def agreement(self) -> float:
        """Share of the compared queries with the same decision."""
        return self.agreed / self.compared if self.compared else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all figures."""
        return {
            "decided": self.decided,
            "compared": self.compared,
            "agreement": self.agreement,
            **{
                name: {
                    "served": side.served,
                    "quality": side.quality,
                    "cost_usd": side.cost,
                    "quality_by_shadow": side.by_shadow[0],
                    "cost_usd_by_shadow": side.by_shadow[1],
                }
                for name, side in (("in_force", self.in_force), ("shadow", self.shadow))
            },
            "by_llm": {
                name: {"in_force": counts[0], "shadow": counts[1], "both": counts[2]}
                for name, counts in sorted(self.by_llm.items())
            },
        }

    def lines(self) -> list[str]:
        """Return the report for people."""
        if not self.compared:
            return [
                f"the shadow decided {self.decided} queries; the topics have no decision in force on them"
            ]
        first = f"{self.compared} queries decided by both; the same decision for {self.agreement:.1%}"
        sides = [
            [
                name,
                side.served,
                f"{side.quality:.2f}",
                f"{side.cost:.6g}",
                f"{side.by_shadow[0]:.2f}",
                f"{side.by_shadow[1]:.6g}",
            ]
            for name, side in (("in force", self.in_force), ("shadow", self.shadow))
        ]
        heads = ["", "served", "quality", "USD", "quality by shadow", "USD by shadow"]
        rows = [[name, *counts] for name, counts in sorted(self.by_llm.items())]
        return [
            first,
            "",
            *table_lines(heads, sides),
            "",
            *table_lines(["LLM", "in force", "shadow", "both"], rows),
        ]


def shadow_report(settings: Settings) -> ShadowReport:
    """Compare the decisions on `router.shadow` with those of the router, first attempts only.

    Raises
    ------
    KafkaException, TimeoutError
        A topic cannot be read.
    """
    topics = settings.topics
    with Scanner(reader_config(settings)) as scanner:
        decisions: dict[Place, dict[str, Any]] = {}
        for message in scanner.read(scanner.places(topics.shadow)):
            if (decision := decode_decision(message.value())) is not None:
                decisions[_origin(decision)] = decision
        prefix = topics.llm("")
        names = [topics.unserved, *(name for name in sorted(scanner.topics()) if name.startswith(prefix))]
        in_force = (
            routing
            for name in names
            for message in scanner.read(scanner.places(name))
            if (routing := _first_decision(message.value())) is not None
        )
        return compare(decisions, in_force)


def compare(decisions: Mapping[Place, Mapping[str, Any]], in_force: Iterable[RoutingInfo]) -> ShadowReport:
    """Compare a shadow's decisions with those of the router.

    Parameters
    ----------
    decisions : mapping of (int, int) to mapping
        Records of the shadow by partition and offset of the query.
    in_force : iterable of RoutingInfo
        The router's decisions; one without an LLM left the query unserved.
    """
    report = ShadowReport(decided=len(decisions))
    for routing in in_force:
        decision = decisions.get(routing.origin)
        if decision is None:
            continue
        report.compared += 1
        report.agreed += routing.model == decision["model"]
        own = _estimates(decision, decision["model"])
        _add(
            report.in_force,
            routing.model,
            (routing.quality, routing.cost),
            _estimates(decision, routing.model),
        )
        _add(report.shadow, decision["model"], own, own)
        for column, name in enumerate((routing.model, decision["model"])):
            report.by_llm.setdefault(name or UNSERVED, [0, 0, 0])[column] += 1
        if routing.model == decision["model"]:
            report.by_llm[routing.model or UNSERVED][2] += 1
    return report


def _origin(decision: Mapping[str, Any]) -> Place:
    source = decision.get("source") or (decision["partition"], decision["offset"])
    return int(source[0]), int(source[1])


def _first_decision(value: bytes | None) -> RoutingInfo | None:
    try:
        routing = RoutingInfo.find(orjson.loads(value or b"null"))
    except orjson.JSONDecodeError:
        return None
    return routing if routing is not None and routing.attempt == 1 else None


def _estimates(decision: Mapping[str, Any], model: str | None) -> tuple[float, float] | None:
    """Return the shadow's estimated quality and cost of an LLM; None if it does not know it."""
    if model not in decision["models"]:
        return None
    column = decision["models"].index(model)
    return decision["quality"][column], decision["cost"][column]


def _add(
    side: Side,
    model: str | None,
    own: tuple[float | None, float | None] | None,
    by_shadow: tuple[float, float] | None,
) -> None:
    if model is None:
        return
    side.served += 1
    quality, cost = own or (None, None)
    side.quality, side.cost = side.quality + (quality or 0.0), side.cost + (cost or 0.0)
    for number, amount in enumerate(by_shadow or ()):
        side.by_shadow[number] += amount
