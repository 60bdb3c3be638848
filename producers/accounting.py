"""What a replay achieved: every query's place checked, the accounting rule applied with the true values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from producers.asked import Asked
from producers.collecting import DEAD, UNSERVED, Arrival
from producers.paid import Paid
from routing.money import read_pico, to_pico, to_usd
from routing.simulate import Outcome, account_for

UNPAID = 2**62
"""Picodollars that no query costs."""


@dataclass(frozen=True)
class Places:
    """Where the queries ended.

    Parameters
    ----------
    queries, served, unserved, dead : int
        Sent; on an LLM's topic; on `queries.unserved`; on `queries.dlq`.
    missing, twice, foreign : list of str
        Ids that are nowhere; that are in more than one place or more than once; that nobody sent.
    first : list of Arrival
        The first place of each query.
    """

    queries: int
    served: int
    unserved: int
    dead: int
    missing: list[str]
    twice: list[str]
    foreign: list[str]
    first: list[Arrival]


@dataclass(frozen=True)
class Achieved:
    """A replay's result under the accounting rule.

    Parameters
    ----------
    outcome : Outcome
        Performance, cost (USD), throughput, by LLM; all periods together.
    lost : int
        Routed queries that the true cost no longer fitted in the budget: they count for nothing.
    budgets : ndarray of float64, shape [M]
        USD, of all periods together.
    periods : int
        In how many periods the queries were routed.
    sent, reserved : ndarray, shape [M]
        Queries on each LLM's topic, and what the router reserved for them in USD.
    over_budget : list of str
        LLMs for which more than the budget of a period was charged: what each query reserved, or what it
        cost where that was less and its outcome was there, for the router may spend the rest again.
    """

    outcome: Outcome
    lost: int
    budgets: NDArray[np.float64]
    periods: int
    sent: NDArray[np.int64]
    reserved: NDArray[np.float64]
    over_budget: list[str] = field(default_factory=list)


def place_all(ids: Sequence[str], arrivals: Sequence[Arrival]) -> Places:
    """Every query that was sent is in exactly one place, once; or this says which are not."""
    sent = set(ids)
    counts = Counter(arrival.id for arrival in arrivals)
    first: dict[str, Arrival] = {}
    for arrival in arrivals:
        if arrival.id in sent:
            first.setdefault(arrival.id, arrival)
    where = Counter(min(arrival.where, 0) for arrival in first.values())
    return Places(
        queries=len(ids),
        served=where[0],
        unserved=where[UNSERVED],
        dead=where[DEAD],
        missing=[identity for identity in ids if identity not in first],
        twice=[identity for identity, count in counts.items() if count > 1 and identity in sent],
        foreign=[identity for identity in counts if identity not in sent],
        first=list(first.values()),
    )


def routed_order(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Routed queries in the order in which they were decided.

    One partition's are in the order of their offsets; over several, the time of the decision goes first.
    """
    served = [arrival for arrival in arrivals if arrival.where >= 0]
    one = len({arrival.partition for arrival in served}) <= 1

    def key(arrival: Arrival) -> tuple[float, int, int]:
        when = 0.0 if one else float(arrival.routing.get("routed_at", arrival.written_at))
        return when, arrival.partition, arrival.offset

    return sorted(served, key=key)


def achieve(
    arrivals: Sequence[Arrival], asked: Asked, budgets: NDArray[np.float64], paid: Paid | None = None
) -> Achieved:
    """The accounting rule on what was routed, with the true qualities and costs.

    Parameters
    ----------
    arrivals : sequence of Arrival
        One for each query, as `Places.first`.
    asked : Asked
        What was sent; its LLMs in the order of the budgets.
    budgets : ndarray of float64, shape [M]
        USD a period.
    paid : mapping, optional
        Outcomes, as `producers.paid.read_paid`.

    Notes
    -----
    A query sent to LLM i counts only while the sum of LLM i's true costs, this query included, stays within
    B_i; otherwise it is lost and costs nothing (PORT, arXiv 2509.02718, section 4). Budgets are for a period,
    so each period is accounted for by itself.

    Whatever a router reserves it must have: reservations that are open and costs of those that are settled
    came to at most the budget, this reservation included. At any later time each of them is the same or, by
    its outcome, less; what is more than was reserved, no router can know before. So the sum of the lesser of
    reservation and cost over all queries of a period is at most the budget, if the router is right.
    """
    models = len(budgets)
    by_period: dict[int, list[Arrival]] = {}
    for arrival in routed_order(arrivals):
        by_period.setdefault(int(arrival.routing.get("period", 1)), []).append(arrival)
    outcomes = []
    sent, reserved = np.zeros(models, np.int64), np.zeros(models, np.int64)
    over: set[int] = set()
    for group in by_period.values():
        index = np.array([asked.places[arrival.id] for arrival in group])
        choice = np.array([arrival.where for arrival in group])
        outcomes.append(account_for(choice, asked.quality[index], asked.cost[index], budgets))
        taken = read_pico([float(arrival.routing.get("cost", 0.0)) for arrival in group])
        kept = np.minimum(taken, [_cost(arrival, paid or {}) for arrival in group])
        charged = np.zeros(models, np.int64)
        np.add.at(reserved, choice, taken)
        np.add.at(charged, choice, kept)
        sent += np.bincount(choice, minlength=models)
        over |= set(np.flatnonzero(charged > to_pico(budgets)).tolist())
    outcome = _sum(outcomes, models)
    return Achieved(
        outcome=outcome,
        lost=int(sent.sum()) - outcome.throughput,
        budgets=budgets * max(1, len(by_period)),
        periods=max(1, len(by_period)),
        sent=sent,
        reserved=to_usd(reserved),
        over_budget=[asked.data.models[i] for i in sorted(over)],
    )


def latencies(
    arrivals: Sequence[Arrival], produced_at: Mapping[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Seconds from producing a query to two moments.

    Returns
    -------
    dict
        "read": until a consumer that reads committed has it; "written": until the router wrote it, by the
        messages' timestamps. Each of shape [number of arrivals].
    """
    known = [(arrival, produced_at[arrival.id]) for arrival in arrivals if arrival.id in produced_at]
    return {
        "read": np.array([arrival.read_at - begun for arrival, begun in known]),
        "written": np.array([arrival.written_at - begun for arrival, begun in known]),
    }


def _cost(arrival: Arrival, paid: Paid) -> int:
    """Picodollars by the query's outcome; what no query costs, where it has none."""
    routing = arrival.routing
    outcome = paid.get((int(routing.get("partition", -1)), int(routing.get("offset", -1))))
    if outcome is None or (outcome.id, outcome.model) != (arrival.id, routing.get("model")):
        return UNPAID
    return int(to_pico(outcome.cost))


def _sum(outcomes: Sequence[Outcome], models: int) -> Outcome:
    return Outcome(
        performance=sum(outcome.performance for outcome in outcomes),
        cost=sum(outcome.cost for outcome in outcomes),
        throughput=sum(outcome.throughput for outcome in outcomes),
        counted=np.concatenate([np.zeros(0, bool), *(outcome.counted for outcome in outcomes)]),
        spent=sum((outcome.spent for outcome in outcomes), np.zeros(models)),
    )
