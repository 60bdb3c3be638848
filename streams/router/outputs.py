"""Messages of a lane's transaction: queries in all outcomes, samples, reservations and dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import structlog
from confluent_kafka import Message
from numpy.typing import NDArray

from routing.arrays import FloatArray, IntArray
from routing.budgets.counters import CounterKey
from routing.budgets.money import to_usd
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.feedback.plan_correction import UNKNOWN_CLUSTER
from routing.policy.decision import BUDGET_EXHAUSTED, DEFERRED, NO_ELIGIBLE_LLM, NOT_WORTH_IT
from routing.policy.plan import Plan
from streams.config.topic_names import Topics
from streams.ledger.account_format import account_to_dict
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch, id_digests
from streams.messages.cloud_events import EventType, event_headers, event_source
from streams.messages.dead_letter import dead_letter_headers
from streams.messages.deferred import overflow_headers
from streams.messages.headers import headers_of
from streams.messages.query import encode_routed, encode_unserved
from streams.messages.record import Record
from streams.messages.rejection import RejectedMessage
from streams.messages.routing_columns import Column, encode_rows
from streams.messages.routing_info import FIRST_ATTEMPT, RoutingInfo
from streams.messages.samples import encode_samples
from streams.messages.unserved import UnservedReason
from streams.router.batch import DecidedBatch
from streams.router.charges import AnswerLimit

log = structlog.get_logger(__name__)

_NONE = np.zeros(0, dtype=np.int64)
_REASONS = {
    NOT_WORTH_IT: UnservedReason.NOT_WORTH_IT,
    BUDGET_EXHAUSTED: UnservedReason.BUDGET_EXHAUSTED,
    NO_ELIGIBLE_LLM: UnservedReason.NO_ELIGIBLE_LLM,
}

Out = Callable[..., None]
"""`FencedProducer.produce` of the open transaction."""


def produce_queries(
    out: Out,
    topics: Topics,
    llm_topics: Sequence[str],
    batch: DecidedBatch,
    now: float,
    llm_partitions: int,
    answer_limit: AnswerLimit | None = None,
) -> None:
    """Produce every query to its LLM's topic, the overflow topic or the topic of unserved queries.

    The partition of `queries` determines the output partition, so a lane's queries keep their order, and a
    transaction touches few partitions.

    Parameters
    ----------
    out : callable
    topics : Topics
    llm_topics : sequence of str, length M
    batch : DecidedBatch
    now : float
        Seconds since the epoch.
    llm_partitions : int
        Partitions of each LLM's topic that the router uses.
    answer_limit : AnswerLimit, optional
        Of answers whose reservation does not bound them.
    """
    plan, arrivals, decisions = batch.plan, batch.arrivals, batch.decisions
    sources, lanes = arrivals.sources, plan.lanes - plan.overflow
    events_from = event_source(topics.prefix)
    choice, attempts = decisions.choice.tolist(), arrivals.attempts
    routings = _encode_routings(batch, now, answer_limit)
    for row, (source, query) in enumerate(zip(arrivals.records, arrivals.queries, strict=True)):
        i = choice[row]
        origin = None if sources is None else sources[row]
        lane = batch.lane if origin is None else origin[0]
        headers = list(source.headers) if source.headers else None
        attempt = FIRST_ATTEMPT if attempts is None else attempts[row]
        position = batch.lane, source.offset, attempt.number
        if i >= 0:
            if headers:
                headers = event_headers(headers, EventType.ROUTED, events_from, position, now)
            value = encode_routed(query, routings[row])
            out(llm_topics[i], value, source.key, headers, lane % llm_partitions)
        elif i == DEFERRED:
            own = overflow_headers(
                batch.lane,
                source,
                batch.uncorrected,
                batch.charge,
                row,
                batch.answer_tokens[row],
                attempt,
            )
            out(topics.overflow, query.value, source.key, (headers or []) + own, partition=0)
        else:
            reason = unserved_reason(batch, row)
            probability = decisions.probability
            routing = RoutingInfo(
                plan.version,
                plan.period,
                batch.lane,
                now,
                source.offset,
                origin,
                attempt=attempt.number,
                tried=attempt.tried or None,
                exhausted=_exhausted(batch, row),
                excluded=(batch.terms.excluded(row) if reason is UnservedReason.NO_ELIGIBLE_LLM else None),
                probability=None if probability is None else float(probability[row]),
            )
            headers = event_headers(headers, EventType.UNSERVED, events_from, position, now)
            value = encode_unserved(query, reason, routing)
            out(topics.unserved, value, source.key, headers, partition=lane % lanes)


def _encode_routings(batch: DecidedBatch, now: float, answer_limit: AnswerLimit | None) -> list[bytes]:
    """Return `routing` of every query as if it was served; those of other queries have no meaning."""
    plan, arrivals, decisions = batch.plan, batch.arrivals, batch.decisions
    served_by = np.maximum(decisions.choice, 0)
    cost, models = to_usd(decisions.charge), [plan.models[i] for i in served_by.tolist()]
    # the fleet must not ask for more tokens
    limits, reserve = batch.answer_tokens, None
    if answer_limit is not None:
        reserve = answer_limit.reserve
        limits = answer_limit.tokens(models, cost.tolist(), plan)
    columns: dict[str, Column] = {
        "offset": batch.offsets,
        "model": models,
        "quality": np.take_along_axis(batch.estimates.quality, served_by[:, None], 1)[:, 0],
        "cost": cost,
        "price": prices_per_dollar(batch),
        "max_tokens": limits,
    }
    if arrivals.sources is not None:
        columns["source"] = arrivals.sources
    if arrivals.attempts is not None:
        columns["attempt"] = [attempt.number for attempt in arrivals.attempts]
        columns["tried"] = [attempt.tried or None for attempt in arrivals.attempts]
    if decisions.probability is not None:
        columns["probability"] = decisions.probability
    common = RoutingInfo(plan.version, plan.period, batch.lane, now, 0, reserve=reserve)
    return encode_rows(common, columns)


def unserved_reason(batch: DecidedBatch, row: int) -> UnservedReason:
    """Return the reason why no LLM gets a query that the batch leaves unserved."""
    is_expired = batch.expired is not None and bool(batch.expired[row])
    return UnservedReason.EXPIRED if is_expired else _REASONS[int(batch.decisions.why[row])]


def prices_per_dollar(batch: DecidedBatch) -> FloatArray:
    """Return the quality that each query's LLM has to be worth for a dollar, over all budgets, shape [n]."""
    plan, decisions = batch.plan, batch.decisions
    account = decisions.account
    if account.counters is None or decisions.columns is None:
        choice = decisions.choice
        return np.where(choice >= 0, plan.prices[np.maximum(choice, 0)], 0.0)
    prices = plan.lane_columns(batch.lane, account.counters).prices
    usd = [number for number, budget in enumerate(account.counters.budgets) if budget.unit == "usd"]
    columns = decisions.columns[:, usd]
    total: FloatArray = np.where(columns >= 0, prices[np.maximum(columns, 0)], 0.0).sum(1)
    return total


def _exhausted(batch: DecidedBatch, row: int) -> list[str] | None:
    column, counters = int(batch.decisions.exhausted[row]), batch.decisions.account.counters
    if column < 0:
        return None
    return [batch.plan.models[column] if counters is None else counters.names[column]]


def produce_dead_letters(
    out: Out, topics: Topics, refused: Sequence[tuple[Record, RejectedMessage]], now: float
) -> None:
    """Produce rejected records to the dead-letter topic, byte for byte."""
    for source, error in refused:
        headers = dead_letter_headers(
            source.headers, error, source.topic, source.partition, source.offset, int(now * 1000)
        )
        out(topics.dlq, source.value, source.key, headers)
        log.info(
            "query_refused",
            partition=source.partition,
            offset=source.offset,
            field=error.field,
            stage=error.stage,
        )


def produce_rejected_outcomes(
    out: Out,
    topics: Topics,
    source: str,
    lane: int,
    rejected: Sequence[tuple[Message, RejectedMessage]],
    now: float,
) -> None:
    """Produce rejected outcomes or returned queries to their dead-letter topic, byte for byte.

    Parameters
    ----------
    out : callable
    topics : Topics
    source : str
        Topic that they came from.
    lane : int
    rejected : sequence of (Message, RejectedMessage)
    now : float
        Seconds since the epoch.
    """
    for message, error in rejected:
        headers = dead_letter_headers(
            headers_of(message), error, source, lane, message.offset() or 0, int(now * 1000)
        )
        out(topics.outcomes_dlq, message.value(), message.key(), headers)


def produce_samples(
    out: Out,
    topics: Topics,
    plan: Plan,
    record: LedgerRecord,
    begin: int,
    estimates: Estimates,
    terms: QueryTerms,
    lockstep: bool,
) -> None:
    """Produce estimates for the planner, with the account that they belong to.

    Parameters
    ----------
    out : callable
    topics : Topics
    plan : Plan
    record : LedgerRecord
        The lane's record with these samples.
    begin : int
        Offset of the first query that the samples cover. They end before the record's `sampled`.
    estimates : Estimates
        [n, M], in the plan's order, uncorrected.
    terms : QueryTerms
    lockstep : bool
        The planner must solve at exactly this state, so the account has the counters of groups, too.
    """
    counters = record.account.counters
    # without lockstep the planner reads counters of groups from the ledgers: they may be many
    partial = counters is not None and bool(counters.grouped.any()) and not lockstep
    clusters = {} if estimates.cluster is None else {"clusters": estimates.cluster.tolist()}
    header = {
        "period": plan.period,
        "lane": record.lane,
        "account": None if partial else account_to_dict(record.account, groups=True),
        "next": record.next,
        # the offsets that these samples cover, so that the audit finds duplicates
        "begin": begin,
        "end": record.sampled,
        "models": plan.models,
        **clusters,
    }
    value = encode_samples(header, estimates.quality, estimates.cost, "<f8", terms)
    out(topics.samples, value, partition=0)


def build_reservations(
    batch: DecidedBatch,
    before: LedgerRecord,
    after: LedgerRecord,
    now: float,
    returns: IntArray | None = None,
) -> ReservationBatch | None:
    """Build the reservations of a batch, also when no query reserved anything; None without a query.

    Parameters
    ----------
    batch : DecidedBatch
    before, after : LedgerRecord
        The lane's before and after the batch.
    now : float
        Seconds since the epoch.
    returns : ndarray of int64, shape [r, 3], optional
        For a batch of returned queries: the reservations that the returns settled (`ReservationBatch`).
    """
    if not len(batch.offsets) and returns is None:
        return None
    plan, arrivals, decisions = batch.plan, batch.arrivals, batch.decisions
    rows = np.flatnonzero(decisions.choice >= 0)
    model = decisions.choice[rows]
    counters, columns, available = _counter_draws(batch, rows)
    limits_tokens = counters is not None and decisions.tokens is not None and bool(decisions.tokens.any())
    cluster = batch.uncorrected.cluster
    return ReservationBatch(
        period=plan.period,
        version=plan.version,
        revision=plan.revision,
        offsets=batch.offsets[rows],
        model=model,
        charge=decisions.charge[rows],
        quality=batch.estimates.quality[rows, model],
        uncorrected=batch.uncorrected.quality[rows, model],
        cluster=np.full(len(rows), UNKNOWN_CLUSTER) if cluster is None else cluster[rows],
        ids=id_digests([arrivals.queries[row].id for row in rows]),
        attempts=np.array([arrivals.attempt(row).number for row in rows.tolist()], dtype=np.int64),
        outcomes_next=after.outcomes_next,
        available=available,
        counters=counters,
        columns=columns,
        tokens=decisions.tokens[rows] if limits_tokens and decisions.tokens is not None else _NONE,
        created_at=now,
        begin=before.next if returns is None else -1,
        end=after.next if returns is None else -1,
        returns=np.zeros((0, 3), dtype=np.int64) if returns is None else returns,
        returned_next=after.returned_next,
    )


def _counter_draws(
    batch: DecidedBatch, rows: NDArray[np.intp]
) -> tuple[tuple[CounterKey, ...] | None, NDArray[np.int32], IntArray]:
    """Return the counters of a batch, the positions that served queries drew on, and what was available."""
    counters, columns = batch.decisions.account.counters, batch.decisions.columns
    if counters is None or columns is None:
        return None, np.zeros((0, 0), dtype=np.int32), batch.available
    # all counters that its queries could have drawn on, for people who ask why one was not served
    possible = counters.columns(batch.terms.terms.values, len(batch.offsets))
    used = np.unique(np.concatenate([counters.fixed_columns, possible.ravel(), columns.ravel()]))
    used = used[used >= 0]
    position = np.full(len(counters), -1, dtype=np.int32)
    position[used] = np.arange(len(used), dtype=np.int32)
    drawn = columns[rows]
    positions = np.where(drawn >= 0, position[np.maximum(drawn, 0)], -1).astype(np.int32)
    return tuple(counters.keys[column] for column in used), positions, batch.available[used]
