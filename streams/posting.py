"""What a lane decided, as messages: to LLMs, to the overflow lane, unserved, refused; and reservations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from routing.account import Account
from routing.decision import DEFERRED, TOLERANCE, IntArray
from routing.estimators.base import Estimates
from routing.money import to_usd
from routing.plan import Plan
from routing.policy import Routed
from streams.backlog import Record
from streams.dead_letters import dead_letter_headers
from streams.intake import Arrivals
from streams.ledger import LedgerRecord
from streams.messages import Refused, encode_routed, encode_unserved
from streams.overflow import overflow_headers
from streams.reservations import Reserved, id_digests
from streams.topic_names import Topics

log = structlog.get_logger(__name__)

Out = Callable[..., None]
"""`FencedProducer.produce` of the open transaction."""


@dataclass(frozen=True)
class Decided:
    """A batch of one lane, decided.

    Parameters
    ----------
    plan : Plan
    lane : int
    arrivals : Arrivals
        n queries, and those that were refused.
    estimates : Estimates
        [n, M], in the order of the plan's LLMs.
    charge : ndarray of int64, shape [n, M]
        Picodollars.
    routed : Routed
    offsets : ndarray of int64, shape [n]
    answer_tokens : sequence of int or None, length n
        Tokens of an answer that `charge` pays for; None where it is an estimate.
    """

    plan: Plan
    lane: int
    arrivals: Arrivals
    estimates: Estimates
    charge: IntArray
    routed: Routed
    offsets: IntArray
    answer_tokens: Sequence[int | None]

    def final_timestamps(self) -> list[int]:
        """When those were sent that have come to their place: milliseconds, as their producers say.

        Deferred ones have not: the overflow lane decides them. Refused ones have.
        """
        choices = self.routed.choice.tolist()
        decided = zip(self.arrivals.records, choices, strict=True)
        refused = [record.timestamp for record, _ in self.arrivals.refused]
        return [record.timestamp for record, choice in decided if choice != DEFERRED] + refused


def post_queries(out: Out, topics: Topics, llm_topics: Sequence[str], decided: Decided) -> None:
    """Every query to its place: its LLM's topic, the overflow lane or the unserved ones."""
    plan, arrivals, routed = decided.plan, decided.arrivals, decided.routed
    sources = arrivals.sources
    common = {
        "plan": plan.version, "period": plan.period, "partition": decided.lane, "routed_at": time.time(),
    }  # fmt: skip
    # plain numbers, all at once: one by one they cost more than the choice
    picked = np.maximum(routed.choice, 0)
    quality = np.take_along_axis(decided.estimates.quality, picked[:, None], 1)[:, 0].tolist()
    cost, prices, choice = to_usd(routed.charge).tolist(), plan.prices.tolist(), routed.choice.tolist()
    for row, (source, query) in enumerate(zip(arrivals.records, arrivals.queries, strict=True)):
        i = choice[row]
        routing: dict[str, Any] = {**common, "offset": source.offset}
        if sources is not None:
            routing["source"] = sources[row]
        headers = list(source.headers) if source.headers else None
        if i >= 0:
            routing["model"] = plan.models[i]
            routing["quality"] = quality[row]
            routing["cost"] = cost[row]
            routing["price"] = prices[i]
            if (most := decided.answer_tokens[row]) is not None:
                # the fleet cannot know otherwise: no more than that is paid for, and only once
                routing["max_tokens"] = most
            out(llm_topics[i], encode_routed(query, routing), source.key, headers)
        elif i == DEFERRED:
            most = decided.answer_tokens[row]
            place = overflow_headers(decided.lane, source, decided.estimates, decided.charge, row, most)
            out(topics.overflow, query.value, source.key, (headers or []) + place, partition=0)
        else:
            worth = bool((routed.score[row] > TOLERANCE).any())
            reason = "no LLM that is worth its price has budget" if worth else "no LLM is worth its price"
            out(topics.unserved, encode_unserved(query, reason, routing), source.key, headers)


def post_refused(out: Out, topics: Topics, refused: Sequence[tuple[Record, Refused]]) -> None:
    """Refused records to the dead-letter queue, byte for byte."""
    now = int(time.time() * 1000)
    for source, error in refused:
        headers = dead_letter_headers(
            source.headers, error, source.topic, source.partition, source.offset, now
        )
        out(topics.dlq, source.value, source.key, headers)
        log.info(
            "query_refused", partition=source.partition, offset=source.offset, field=error.field,
            stage=error.stage,
        )  # fmt: skip


def reservations(
    decided: Decided, begun: Account, before: LedgerRecord, after: LedgerRecord
) -> Reserved | None:
    """What the batch reserved, and by which rights even when nothing was; None without a query.

    Parameters
    ----------
    decided : Decided
    begun : Account
        The lane's before the first query was charged.
    before, after : LedgerRecord
        The lane's before and after the batch.
    """
    if not len(decided.offsets):
        return None
    plan, arrivals, routed = decided.plan, decided.arrivals, decided.routed
    rows = np.flatnonzero(routed.choice >= 0)
    picked = routed.choice[rows]
    return Reserved(
        period=plan.period,
        version=plan.version,
        revision=plan.revision,
        offsets=decided.offsets[rows],
        model=picked,
        charge=routed.charge[rows],
        quality=decided.estimates.quality[rows, picked],
        ids=id_digests([arrivals.queries[row].id for row in rows]),
        outcomes_next=after.outcomes_next,
        available=begun.available(plan.granted[decided.lane]),
        created_at=time.time(),
        begin=before.next,
        end=after.next,
    )
