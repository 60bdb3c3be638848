"""Explanation of a query's decisions: each is recomputed from the plan in force then, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Message, TopicPartition

from routing.arrays import FloatArray
from routing.budgets.money import to_usd
from routing.policy.decision import DEFERRED, TOLERANCE, UNSERVED
from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.scanner import Scanner, format_position, written_at
from streams.ledger.reservations import ReservationBatch
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.headers import headers_of
from streams.messages.outcome import (
    decode_outcome,
)
from streams.messages.query import (
    Query,
    decode_query,
    stack_embeddings,
)
from streams.messages.rejection import (
    RejectedMessage,
)
from streams.messages.routing_info import RoutingInfo
from streams.messages.unserved import reason_text
from streams.operations.explained_counters import shown_counters, unaffordable
from streams.operations.query_search import QuerySearch, RecordedDecision
from streams.operations.recompute import UNLIMITED, DecisionRecomputer, RecomputedDecision, available_before
from streams.planner.plan_history import PlanLog
from streams.router.estimation import Estimation

NEIGHBOURS = 10
MAX_PROMPT_CHARACTERS = 2000


def explain(
    settings: Settings,
    estimating: Estimation | None,
    query_id: str,
    *,
    since: float | None = None,
    neighbours: int = NEIGHBOURS,
) -> dict[str, Any]:
    """Return all recorded and recomputed data about the decisions for a query.

    Parameters
    ----------
    settings : Settings
    estimating : Estimation or None
        Estimation of the workers. None: only recorded data is returned, without estimates.
    query_id : str
    since : float, optional
        Start of the search, in seconds since the epoch.
    neighbours : int
        Maximum number of rows of the history.

    Returns
    -------
    dict
        Plain data: `id`, `prompt`, `max_tokens`, and `decisions` in the order of time. A query that passed
        through the overflow lane has two decisions. If an id was sent several times, all decisions are
        included. Money is in USD, prices are in quality per USD.

        Each decision has `stage` (routed, unserved, deferred, refused, waiting), `model`, `reason`, `at`,
        `lane`, `offset`, `attempt`, `tried` (LLMs that returned the query before), `exhausted` (budgets that
        could not pay it), `found` (position of the query now), `plan`, `models` (by LLM: quality, cost,
        charge, price, score, available before and after, can_pay, chosen, excluded by what, and with shared
        budgets the counters that cannot pay), `budgets` (`shown_counters`), `estimated_by`, `explored`,
        `agrees` (the recomputed decision is the same; None if it cannot be recomputed), `recorded` (values
        of the message), `transaction`, `outcome` and `neighbours`.

    Raises
    ------
    LookupError
        No topic holds the query.
    """
    with Scanner(reader_config(settings)) as scanner:
        plans = PlanLog(settings, scanner)
        search = QuerySearch(settings, scanner, plans.names, plans.llms, since)
        records = search.find(query_id)
        if not records:
            raise LookupError(
                f"query_id: {query_id!r} is on no topic; it was never sent, or its records were deleted"
            )
        explaining = _Explaining(settings, estimating, scanner, plans, neighbours)
        inputs = [search.input_of(recorded) for recorded in records]
        decisions = [explaining.decision(s, source) for s, source in zip(records, inputs, strict=True)]
        for before, after in pairwise(decisions):
            if after["pool"] and before["neighbours"]:  # the same query as in the decision before
                after["neighbours"] = []
        text = next((m for m in [*inputs, *(s.message for s in records)] if m is not None), None)
    return {"id": query_id, **_shown_query(text), "decisions": decisions}


class _Explaining:
    def __init__(
        self,
        settings: Settings,
        estimating: Estimation | None,
        scanner: Scanner,
        plans: PlanLog,
        neighbours: int,
    ) -> None:
        self._settings, self._estimating = settings, estimating
        self._scanner, self._plans, self._neighbours = scanner, plans, neighbours
        self._recomputer = DecisionRecomputer(settings, estimating, scanner)

    def decision(self, recorded: RecordedDecision, source: Message | None) -> dict[str, Any]:
        """Return one decision as plain data."""
        routing = _routing(recorded.message)
        plan = self._plan(recorded, routing)
        decision: dict[str, Any] = {
            "stage": recorded.stage,
            "at": recorded.at,
            "lane": recorded.lane,
            "offset": recorded.offset,
            "attempt": recorded.attempt,
            "tried": [] if routing is None else list(routing.tried or ()),
            "pool": recorded.lane == self._settings.partitions,
            "found": None if recorded.message is None else format_position(recorded.message),
            "model": _model(recorded, routing, plan),
            "reason": _reason(recorded, routing),
            "exhausted": [] if routing is None else list(routing.exhausted or ()),
            "recorded": _recorded(routing),
            "plan": None if plan is None else _shown_plan(plan),
            "transaction": _shown_transaction(recorded.reservations),
            "models": [],
            "budgets": [],
            "estimated_by": None,
            "explored": False,
            "agrees": None,
            "neighbours": [],
            "outcome": self._outcome(recorded) if recorded.stage == "routed" else None,
        }
        recomputed = self._recomputer.recompute(recorded, source, plan)
        if recomputed is not None:
            decision |= {"estimated_by": recomputed.estimated_by, "explored": recomputed.is_explored}
            decision["neighbours"] = self._nearest_rows(recomputed.query)
        if plan is not None and recorded.stage in ("routed", "unserved", "deferred"):
            excluded = {} if routing is None else routing.excluded or {}
            decision |= self._scored(recorded, plan, recomputed, decision["model"], excluded)
        return decision

    def _plan(self, recorded: RecordedDecision, routing: RoutingInfo | None) -> Plan | None:
        if recorded.reservations is not None:
            return self._plans.at(recorded.reservations.revision)
        if routing is not None and routing.plan is not None:
            return self._plans.of_version(routing.plan, routing.period or 0)
        return None

    # ---- the recomputed decision -------------------------------------------------------------------------

    def _scored(
        self,
        recorded: RecordedDecision,
        plan: Plan,
        recomputed: RecomputedDecision | None,
        model: str | None,
        recorded_exclusions: Mapping[str, str],
    ) -> dict[str, Any]:
        """Return the data of the decision by LLM, and whether the recomputed decision is the same."""
        reservations = recorded.reservations
        units = {budget.name: budget.unit for budget in plan.counters.budgets}
        before = (
            None
            if reservations is None
            else available_before(reservations, recorded.offset, recorded.row, units)
        )
        score: FloatArray | None = None
        agrees = None
        charge = self._reserved_pico(recorded, recomputed, plan, model)
        if recomputed is not None:
            rights = before if before is not None else np.full(len(plan.models), UNLIMITED)
            choice, score = self._recomputer.choose(plan, recorded, recomputed, rights)
            if before is not None:
                index = plan.models.index(model) if model in plan.models else None
                outcome = {"deferred": DEFERRED, "unserved": UNSERVED}.get(recorded.stage, index)
                agrees = choice == outcome
        budgets = [] if plan.per_llm else shown_counters(plan, reservations, before, recomputed)
        recomputed_exclusions = {} if recomputed is None else recomputed.terms.excluded(0)
        excluded = dict(recorded_exclusions) | {
            name: why for name, why in recomputed_exclusions.items() if why
        }
        charged = None if recomputed is None else recomputed.charge[0]
        if reservations is not None and reservations.counters is not None:
            before = None  # each LLM draws on several counters: see `budgets`
        rows = []
        for i, name in enumerate(plan.models):
            row: dict[str, Any] = {
                "name": name,
                "active": bool(plan.active[i]),
                "price": float(plan.prices[i]) if plan.per_llm else None,
                "chosen": name == model,
                "excluded": excluded.get(name),
            }
            if recomputed is not None and score is not None:
                row |= {
                    "quality": float(recomputed.estimates.quality[0, i]),
                    "cost": float(recomputed.estimates.cost[0, i]),
                    "charge": _usd(recomputed.charge[0, i]),
                    "score": float(score[i]) if np.isfinite(score[i]) else None,
                    "worth": bool(score[i] > TOLERANCE),
                    "comparable": bool(recomputed.alignment.comparable[i]),
                }
            if before is not None and i < len(before):
                row["available_before"] = _usd(before[i])
                row["available_after"] = _usd(before[i] - (charge if name == model else 0))
                if recomputed is not None:
                    row["can_pay"] = bool(recomputed.charge[0, i] <= before[i])
            if budgets and charged is not None:
                row["cannot_pay"] = unaffordable(plan, budgets, i, int(charged[i]))
            rows.append(row)
        return {"models": rows, "agrees": agrees, "budgets": budgets}

    def _reserved_pico(
        self, recorded: RecordedDecision, recomputed: RecomputedDecision | None, plan: Plan, model: str | None
    ) -> int:
        """Return the picodollars that the query reserved."""
        if recorded.stage != "routed":
            return 0
        if recorded.reservations is not None and recorded.row is not None:
            return int(recorded.reservations.charge[recorded.row])
        if recomputed is not None and model in plan.models:
            return int(recomputed.charge[0, plan.models.index(model)])
        return 0

    # ---- beside the decision -----------------------------------------------------------------------------

    def _nearest_rows(self, query: Query) -> list[dict[str, Any]]:
        """Return the nearest rows of the history by cosine, with quality and cost of each LLM."""
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
                "prompt": history.prompts[row][:MAX_PROMPT_CHARACTERS],
                "quality": dict(zip(history.models, history.quality[row].tolist(), strict=True)),
                "cost": dict(zip(history.models, history.cost[row].tolist(), strict=True)),
            }
            for row in np.argsort(-similarity, kind="stable")[: self._neighbours]
        ]

    def _outcome(self, recorded: RecordedDecision) -> dict[str, Any] | None:
        """Return the outcome that the fleet reported, or None."""
        topic, start = self._settings.topics.outcomes, 0
        if recorded.reservations is not None:
            start = recorded.reservations.outcomes_next
        if not 0 <= recorded.lane < self._scanner.partitions(topic):
            return None
        for message in self._scanner.read([TopicPartition(topic, recorded.lane, start)]):
            try:
                outcome = decode_outcome(message.value())
            except RejectedMessage:
                continue
            if (outcome.offset, outcome.attempt) == (recorded.offset, recorded.attempt):
                return {
                    "cost": outcome.cost,
                    "quality": outcome.quality,
                    "model": outcome.model,
                    "at": written_at(message),
                }
        return None


def _routing(message: Message | None) -> RoutingInfo | None:
    try:
        return RoutingInfo.find(orjson.loads((message.value() if message is not None else None) or b"{}"))
    except orjson.JSONDecodeError:
        return None


def _recorded(routing: RoutingInfo | None) -> dict[str, float]:
    """Return the estimates and the price that the message has."""
    if routing is None:
        return {}
    numbers = {"quality": routing.quality, "cost": routing.cost, "price": routing.price}
    return {name: number for name, number in numbers.items() if number is not None}


def _model(recorded: RecordedDecision, routing: RoutingInfo | None, plan: Plan | None) -> str | None:
    if recorded.stage != "routed":
        return None
    if routing is not None and routing.model is not None:
        return routing.model
    if recorded.reservations is None or recorded.row is None or plan is None:
        return None
    return plan.models[int(recorded.reservations.model[recorded.row])]


def _reason(recorded: RecordedDecision, routing: RoutingInfo | None) -> str | None:
    if recorded.stage == "waiting":
        return "no lane has decided it yet"
    if recorded.stage == "deferred":
        return "the lane's grant could not pay the best LLM"
    if recorded.message is None or recorded.stage == "routed":
        return None
    if recorded.stage == "refused":
        return split_dead_letter_headers(headers_of(recorded.message))[1].get("exception.message")
    text = reason_text(orjson.loads(recorded.message.value() or b"{}").get("reason"))
    exhausted = [] if routing is None else routing.exhausted or []
    return f"{text}: {', '.join(exhausted)}" if exhausted else text


def _shown_plan(plan: Plan) -> dict[str, Any]:
    return {
        "version": plan.version,
        "period": plan.period,
        "learned": plan.learned,
        "created_at": plan.created_at,
        "solved_from": plan.solved_from.to_dict(),
    }


def _shown_transaction(reservations: ReservationBatch | None) -> dict[str, Any] | None:
    if reservations is None:
        return None
    return {
        "begin": reservations.begin,
        "end": reservations.end,
        "served": len(reservations.offsets),
        "at": reservations.created_at,
        "revision": reservations.revision,
    }


def _shown_query(message: Message | None) -> dict[str, Any]:
    try:
        query = decode_query(None if message is None else message.value(), None)
    except RejectedMessage:
        return {"prompt": None, "max_tokens": None}
    return {"prompt": query.prompt[:MAX_PROMPT_CHARACTERS], "max_tokens": query.max_tokens}


def _usd(pico: Any) -> float:
    return float(to_usd(int(pico)))
