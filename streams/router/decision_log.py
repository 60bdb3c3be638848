"""Log of decisions: one record a query, with the scores of all LLMs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from routing.budgets.money import to_usd
from routing.policy.decision import DEFERRED
from streams.config.topic_names import Topics
from streams.messages.decision import DecisionRecord
from streams.router.batch import DecidedBatch
from streams.router.outputs import Out, unserved_reason


def produce_decisions(out: Out, topics: Topics, batch: DecidedBatch, now: float) -> None:
    """Produce the records of a batch to the decision log, in the partitions of the queries.

    Parameters
    ----------
    out : callable
    topics : Topics
    batch : DecidedBatch
    now : float
        Seconds since the epoch.
    """
    for row, record in decision_records(batch, now):
        source = batch.arrivals.records[row]
        partition = record.partition if record.source is None else record.source[0]
        out(topics.decisions, record.encode(), source.key, partition=partition)


def decision_records(batch: DecidedBatch, now: float) -> Iterator[tuple[int, DecisionRecord]]:
    """Yield row and record of each decided query; deferred queries are decided by the overflow lane.

    Parameters
    ----------
    batch : DecidedBatch
    now : float
        Seconds since the epoch.
    """
    plan, arrivals, decisions, terms = batch.plan, batch.arrivals, batch.decisions, batch.terms.terms
    n, models = batch.charge.shape
    weight = np.ones(n) if terms.weight is None else terms.weight
    closed = np.isneginf(decisions.score)
    score = np.where(closed, np.nan, decisions.score)
    price = weight[:, None] * batch.estimates.quality - score
    eligible = np.broadcast_to(plan.active, (n, models))
    if terms.eligible is not None:
        eligible = eligible & terms.eligible
    probability = np.ones(n) if decisions.probability is None else decisions.probability
    usd = to_usd(batch.charge)
    for row, choice in enumerate(decisions.choice.tolist()):
        if choice == DEFERRED:
            continue
        yield (
            row,
            DecisionRecord(
                id=arrivals.queries[row].id,
                partition=batch.lane,
                offset=int(batch.offsets[row]),
                source=None if arrivals.sources is None else arrivals.sources[row],
                attempt=arrivals.attempt(row).number,
                plan=plan.version,
                period=plan.period,
                decided_at=now,
                model=plan.models[choice] if choice >= 0 else None,
                reason=unserved_reason(batch, row) if choice < 0 else None,
                probability=float(probability[row]),
                weight=float(weight[row]),
                models=list(plan.models),
                quality=batch.estimates.quality[row].tolist(),
                cost=batch.estimates.cost[row].tolist(),
                reserved=usd[row].tolist(),
                price=price[row].tolist(),
                score=score[row].tolist(),
                eligible=eligible[row].tolist(),
            ),
        )
