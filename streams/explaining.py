"""Why a query went where it went: each decision made again from what was in force, and compared."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Message, TopicPartition

from routing.decision import DEFERRED, TOLERANCE, UNSERVED
from routing.estimators.base import FloatArray
from routing.money import to_usd
from routing.plan import Plan
from streams.dead_letters import split_dead_letter_headers
from streams.estimating import Estimating
from streams.finding import Finder, Sighting
from streams.headers import headers_of
from streams.kafka import reader_config
from streams.messages import Query, Refused, decode_outcome, decode_query, stack_embeddings
from streams.plan_log import PlanLog
from streams.remaking import UNLIMITED, Remade, Remaker, available_before
from streams.reservations import Reserved
from streams.scanning import Scanner, place_of, written_at
from streams.settings import Settings

NEIGHBOURS = 10
SHOWN_CHARACTERS = 2000


def explain(
    settings: Settings,
    estimating: Estimating | None,
    query_id: str,
    *,
    since: float | None = None,
    neighbours: int = NEIGHBOURS,
) -> dict[str, Any]:
    """Everything that is known of why a query went where it went.

    Parameters
    ----------
    settings : Settings
    estimating : Estimating or None
        What the workers estimate with. None: only what is written down is shown, without estimates.
    query_id : str
    since : float, optional
        Look no further back; seconds since the epoch.
    neighbours : int
        Rows of the history shown.

    Returns
    -------
    dict
        Plain data: `id`, `prompt`, `max_tokens`, and `decisions` in the order of time. A query that took the
        overflow lane has two, and an id that was sent again has all of them. Money in USD, prices in quality
        per USD.

        Each decision has `stage` (routed, unserved, deferred, refused, waiting), `model`, `reason`, `at`,
        `lane`, `offset`, `found` (where the query lies now), `plan`, `models` (by LLM: quality, cost, charge,
        price, score, available before and after, whether it could pay, chosen), `estimated_by`, `explored`,
        `agrees` (the decision made again is the same; None where it cannot be made again), `recorded` (what
        the message says), `transaction`, `outcome` and `neighbours`.

    Raises
    ------
    LookupError
        There is no such query, or no trace of it is left.
    """
    with Scanner(reader_config(settings)) as scanner:
        plans = PlanLog(settings, scanner)
        finder = Finder(settings, scanner, plans.names, plans.llms, since)
        sightings = finder.find(query_id)
        if not sightings:
            raise LookupError(
                f"query_id: {query_id!r} is on no topic; it was never sent, or all that held it is deleted"
            )
        explaining = _Explaining(settings, estimating, scanner, plans, neighbours)
        inputs = [finder.input_of(sighting) for sighting in sightings]
        decisions = [explaining.decision(s, source) for s, source in zip(sightings, inputs, strict=True)]
        for before, after in pairwise(decisions):
            if after["pool"] and before["neighbours"]:  # the same query, and told just before
                after["neighbours"] = []
        text = next((m for m in [*inputs, *(s.message for s in sightings)] if m is not None), None)
    return {"id": query_id, **_shown_query(text), "decisions": decisions}


class _Explaining:
    def __init__(
        self,
        settings: Settings,
        estimating: Estimating | None,
        scanner: Scanner,
        plans: PlanLog,
        neighbours: int,
    ) -> None:
        self._settings, self._estimating = settings, estimating
        self._scanner, self._plans, self._neighbours = scanner, plans, neighbours
        self._remaker = Remaker(settings, estimating, scanner)

    def decision(self, sighting: Sighting, source: Message | None) -> dict[str, Any]:
        """One decision as plain data."""
        routing = _routing(sighting.message)
        plan = self._plan(sighting, routing)
        told: dict[str, Any] = {
            "stage": sighting.stage,
            "at": sighting.at,
            "lane": sighting.lane,
            "offset": sighting.offset,
            "pool": sighting.lane == self._settings.partitions,
            "found": None if sighting.message is None else place_of(sighting.message),
            "model": _model(sighting, routing, plan),
            "reason": _reason(sighting),
            "recorded": {name: routing[name] for name in ("quality", "cost", "price") if name in routing},
            "plan": None if plan is None else _shown_plan(plan),
            "transaction": _shown_transaction(sighting.reserved),
            "models": [],
            "estimated_by": None,
            "explored": False,
            "agrees": None,
            "neighbours": [],
            "outcome": self._outcome(sighting) if sighting.stage == "routed" else None,
        }
        again = self._remaker.remake(sighting, source, plan)
        if again is not None:
            told |= {"estimated_by": again.estimated_by, "explored": again.explore >= 0}
            told["neighbours"] = self._near(again.query)
        if plan is not None and sighting.stage in ("routed", "unserved", "deferred"):
            told |= self._scored(sighting, plan, again, told["model"])
        return told

    def _plan(self, sighting: Sighting, routing: dict[str, Any]) -> Plan | None:
        if sighting.reserved is not None:
            return self._plans.at(sighting.reserved.revision)
        if "plan" in routing:
            return self._plans.of_version(int(routing["plan"]), int(routing.get("period", 0)))
        return None

    # ---- the decision again ------------------------------------------------------------------------------

    def _scored(
        self, sighting: Sighting, plan: Plan, again: Remade | None, chosen: str | None
    ) -> dict[str, Any]:
        """By LLM: what the decision rested on; and whether it comes out the same."""
        reserved = sighting.reserved
        before = None if reserved is None else available_before(reserved, sighting.offset)
        score: FloatArray | None = None
        agrees = None
        charge = self._taken(sighting, again, plan, chosen)
        if again is not None:
            rights = before if before is not None else np.full(len(plan.models), UNLIMITED)
            choice, score = self._remaker.choose(plan, sighting, again, rights)
            if before is not None:
                wanted = plan.models.index(chosen) if chosen in plan.models else None
                outcome = {"deferred": DEFERRED, "unserved": UNSERVED}.get(sighting.stage, wanted)
                agrees = choice == outcome
        rows = []
        for i, name in enumerate(plan.models):
            row: dict[str, Any] = {
                "name": name,
                "active": bool(plan.active[i]),
                "price": float(plan.prices[i]),
                "chosen": name == chosen,
            }
            if again is not None and score is not None:
                row |= {
                    "quality": float(again.estimates.quality[0, i]),
                    "cost": float(again.estimates.cost[0, i]),
                    "charge": _usd(again.charge[0, i]),
                    "score": float(score[i]) if np.isfinite(score[i]) else None,
                    "worth": bool(score[i] > TOLERANCE),
                    "comparable": bool(again.alignment.comparable[i]),
                }
            if before is not None and i < len(before):
                row["available_before"] = _usd(before[i])
                row["available_after"] = _usd(before[i] - (charge if name == chosen else 0))
                if again is not None:
                    row["can_pay"] = bool(again.charge[0, i] <= before[i])
            rows.append(row)
        return {"models": rows, "agrees": agrees}

    def _taken(self, sighting: Sighting, again: Remade | None, plan: Plan, chosen: str | None) -> int:
        """Picodollars that the query reserved."""
        if sighting.stage != "routed":
            return 0
        if sighting.reserved is not None:
            row = int(np.searchsorted(sighting.reserved.offsets, sighting.offset))
            return int(sighting.reserved.charge[row])
        if again is not None and chosen in plan.models:
            return int(again.charge[0, plan.models.index(chosen)])
        return 0

    # ---- beside the decision -----------------------------------------------------------------------------

    def _near(self, query: Query) -> list[dict[str, Any]]:
        """The rows of the history that are nearest by cosine, with what the LLMs did on them."""
        if self._estimating is None:
            return []
        embedded = self._estimating.history
        carried = stack_embeddings([query], self._estimating.dimension)
        if carried.missing[0]:
            vector = self._estimating.embedder.embed([query.prompt]).embeddings[0]
        else:
            vector = carried.matrix[0]
        similarity = embedded.embeddings @ vector
        history = embedded.history
        return [
            {
                "id": history.ids[row],
                "similarity": float(similarity[row]),
                "task": history.tasks[row],
                "prompt": history.prompts[row][:SHOWN_CHARACTERS],
                "quality": dict(zip(history.models, history.quality[row].tolist(), strict=True)),
                "cost": dict(zip(history.models, history.cost[row].tolist(), strict=True)),
            }
            for row in np.argsort(-similarity, kind="stable")[: self._neighbours]
        ]

    def _outcome(self, sighting: Sighting) -> dict[str, Any] | None:
        """What answering it really cost, when its fleet has told."""
        topic, start = self._settings.topics.outcomes, 0
        if sighting.reserved is not None:
            start = sighting.reserved.outcomes_next
        if not 0 <= sighting.lane < self._scanner.partitions(topic):
            return None
        for message in self._scanner.read([TopicPartition(topic, sighting.lane, start)]):
            try:
                outcome = decode_outcome(message.value())
            except Refused:
                continue
            if outcome.offset == sighting.offset:
                return {
                    "cost": outcome.cost,
                    "quality": outcome.quality,
                    "model": outcome.model,
                    "at": written_at(message),
                }
        return None


def _routing(message: Message | None) -> dict[str, Any]:
    try:
        fields = orjson.loads((message.value() if message is not None else None) or b"{}")
    except orjson.JSONDecodeError:
        return {}
    routing = fields.get("routing") if isinstance(fields, dict) else None
    return routing if isinstance(routing, dict) else {}


def _model(sighting: Sighting, routing: dict[str, Any], plan: Plan | None) -> str | None:
    if sighting.stage != "routed":
        return None
    if "model" in routing:
        return str(routing["model"])
    if sighting.reserved is None or plan is None:
        return None
    return plan.models[
        int(sighting.reserved.model[np.searchsorted(sighting.reserved.offsets, sighting.offset)])
    ]


def _reason(sighting: Sighting) -> str | None:
    if sighting.stage == "waiting":
        return "no lane has decided it yet"
    if sighting.stage == "deferred":
        return "the lane could not pay the LLM that is best for it"
    if sighting.message is None or sighting.stage == "routed":
        return None
    if sighting.stage == "refused":
        return split_dead_letter_headers(headers_of(sighting.message))[1].get("exception.message")
    return str(orjson.loads(sighting.message.value() or b"{}").get("reason"))


def _shown_plan(plan: Plan) -> dict[str, Any]:
    return {
        "version": plan.version,
        "period": plan.period,
        "learned": plan.learned,
        "created_at": plan.created_at,
        "solved_from": plan.solved_from,
    }


def _shown_transaction(reserved: Reserved | None) -> dict[str, Any] | None:
    if reserved is None:
        return None
    return {
        "begin": reserved.begin,
        "end": reserved.end,
        "served": len(reserved.offsets),
        "at": reserved.created_at,
        "revision": reserved.revision,
    }


def _shown_query(message: Message | None) -> dict[str, Any]:
    try:
        query = decode_query(None if message is None else message.value(), None)
    except Refused:
        return {"prompt": None, "max_tokens": None}
    return {"prompt": query.prompt[:SHOWN_CHARACTERS], "max_tokens": query.max_tokens}


def _usd(pico: Any) -> float:
    return float(to_usd(int(pico)))
