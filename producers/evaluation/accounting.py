"""Account for a replay: locate every query, and apply the accounting rule with the true values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from producers.evaluation.outcomes import OutcomesByPosition
from producers.evaluation.queries import ReplayQueries
from producers.result_collector import DEAD, UNSERVED, CollectedResult
from routing.accounting import SimulationResult, account_for_counters
from routing.budgets.counters import Counters
from routing.budgets.money import read_pico, to_pico, to_usd

NO_OUTCOME_PICO = 2**62
"""Stands for the cost of a query without an outcome; larger than any reservation."""


@dataclass(frozen=True)
class Placements:
    """Locations of all queries of a replay.

    Parameters
    ----------
    queries, served, unserved, dead : int
        Number of queries sent, on an LLM's topic, on `queries.unserved`, and on `queries.dlq`.
    missing, twice, foreign : list of str
        Ids that were not found, found more than once for one attempt or after their last place, and found
        without having been sent.
    first, last : list of CollectedResult
        The first result of each query, and that of its last attempt.
    """

    queries: int
    served: int
    unserved: int
    dead: int
    missing: list[str]
    twice: list[str]
    foreign: list[str]
    first: list[CollectedResult]
    last: list[CollectedResult]


@dataclass(frozen=True)
class ReplayScore:
    """A replay's result under the accounting rule.

    Parameters
    ----------
    outcome : SimulationResult
        Performance, cost (USD) and throughput, by LLM, over all periods.
    lost : int
        Routed queries whose true cost no longer fitted a budget; they count for nothing.
    counters : Counters
        With the values that the queries had.
    limits, spent : ndarray of float64, shape [K]
        USD by counter, over all periods.
    periods : int
        Number of periods in which queries were routed.
    sent, reserved : ndarray, shape [M]
        Number of queries on each LLM's topic, and the USD that the router reserved for them.
    over_budget : list of str
        Counters whose charges exceeded the limit of a period. A query is charged the lesser of its
        reservation and the cost in its outcome, because the router may spend released money again.
    """

    outcome: SimulationResult
    lost: int
    counters: Counters
    limits: NDArray[np.float64]
    spent: NDArray[np.float64]
    periods: int
    sent: NDArray[np.int64]
    reserved: NDArray[np.float64]
    over_budget: list[str] = field(default_factory=list)


def locate_queries(ids: Sequence[str], results: Sequence[CollectedResult]) -> Placements:
    """Locate every query that was sent, and list those that are missing or duplicated."""
    sent_ids = set(ids)
    results_by_id: dict[str, list[CollectedResult]] = {}
    for result in results:
        results_by_id.setdefault(result.id, []).append(result)
    own = {identity: attempts for identity, attempts in results_by_id.items() if identity in sent_ids}
    last = [max(attempts, key=lambda result: result.attempt) for attempts in own.values()]
    counts = Counter(min(result.destination, 0) for result in last)
    return Placements(
        queries=len(ids),
        served=counts[0],
        unserved=counts[UNSERVED],
        dead=counts[DEAD],
        missing=[identity for identity in ids if identity not in own],
        twice=[identity for identity, attempts in own.items() if not _is_one_walk(attempts)],
        foreign=[identity for identity in results_by_id if identity not in sent_ids],
        first=[attempts[0] for attempts in own.values()],
        last=last,
    )


def _is_one_walk(attempts: Sequence[CollectedResult]) -> bool:
    """Return whether results are one for each attempt, all but the last of them on LLMs' topics."""
    ordered = sorted(attempts, key=lambda result: result.attempt)
    numbers = [result.attempt for result in ordered]
    return len(set(numbers)) == len(numbers) and all(result.destination >= 0 for result in ordered[:-1])


def routed_order(results: Sequence[CollectedResult]) -> list[CollectedResult]:
    """Return the routed queries in the order in which they were decided.

    Queries of a single partition are ordered by offset; of several, by the time of the decision.
    """
    served = [result for result in results if result.destination >= 0]
    single_partition = len({result.partition for result in served}) <= 1

    def key(result: CollectedResult) -> tuple[float, int, int]:
        routed_at = result.routing.routed_at if result.routing is not None else None
        when = 0.0 if single_partition else result.written_at if routed_at is None else routed_at
        return when, result.partition, result.offset

    return sorted(served, key=key)


def score_replay(
    results: Sequence[CollectedResult],
    queries: ReplayQueries,
    counters: Counters,
    outcomes_by_position: OutcomesByPosition | None = None,
) -> ReplayScore:
    """Apply the accounting rule to the routed queries, with the true qualities and costs.

    Parameters
    ----------
    results : sequence of CollectedResult
        One for each query, as `Placements.last`.
    queries : ReplayQueries
        The queries sent; their LLMs are those of the counters.
    counters : Counters
        Budgets in USD per period, from `producers.evaluation.budgets`.
    outcomes_by_position : mapping, optional
        From `producers.evaluation.outcomes.read_outcome_costs`.

    Notes
    -----
    A query counts only while the sum of the true costs of every counter that it draws on, this query
    included, stays within the limit; otherwise it is lost and costs nothing (PORT, arXiv 2509.02718,
    section 4). Budgets are for a period, so each period is accounted for separately.

    When a correct router makes a reservation, all open reservations and settled costs, this one included, sum
    to at most the limit. Later, an outcome can only lower a term of that sum; costs above a reservation are
    unknown in advance and not counted here. So the sum over all queries of a period of the lesser of
    reservation and cost is at most the limit.
    """
    models = len(counters.models)
    counters, columns = counters.resolved(queries.terms.values, len(queries))
    limits = counters.limits()
    by_period: dict[int, list[CollectedResult]] = {}
    for result in routed_order(results):
        period = result.routing.period if result.routing is not None else None
        by_period.setdefault(1 if period is None else period, []).append(result)
    outcomes = []
    sent, reserved = np.zeros(models, np.int64), np.zeros(models, np.int64)
    spent = np.zeros(len(counters))
    over: set[int] = set()
    for group in by_period.values():
        index = np.array([queries.index_by_id[result.id] for result in group])
        choice = np.array([result.destination for result in group])
        terms = queries.terms.rows(index)
        scored = account_for_counters(choice, queries.quality[index], queries.cost[index], counters, terms)
        outcomes.append(scored)
        costs = [result.routing.cost if result.routing is not None else None for result in group]
        reservations = read_pico([cost or 0.0 for cost in costs])
        charges = np.minimum(reservations, [_cost(result, outcomes_by_position or {}) for result in group])
        charged = np.zeros(len(counters), np.int64)
        np.add.at(reserved, choice, reservations)
        true_cost = np.where(scored.counted, queries.cost[index, choice], 0.0)
        for number in range(len(counters.budgets)):
            draws = counters.covers[number, choice]
            np.add.at(charged, columns[index, number], np.where(draws, charges, 0))
            np.add.at(spent, columns[index, number], np.where(draws, true_cost, 0.0))
        sent += np.bincount(choice, minlength=models)
        over |= set(np.flatnonzero(charged > limits).tolist())
    outcome = _sum(outcomes, models)
    return ReplayScore(
        outcome=outcome,
        lost=int(sent.sum()) - outcome.throughput,
        counters=counters,
        limits=to_usd(limits) * max(1, len(by_period)),
        spent=spent,
        periods=max(1, len(by_period)),
        sent=sent,
        reserved=to_usd(reserved),
        over_budget=[counters.names[column] for column in sorted(over)],
    )


def latencies(
    results: Sequence[CollectedResult], produced_at: Mapping[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Return the seconds from producing a query to two moments.

    Returns
    -------
    dict
        "read": until a committed read; "written": until the timestamp of the router's message. Each of shape
        [number of results].
    """
    timed = [(result, produced_at[result.id]) for result in results if result.id in produced_at]
    return {
        "read": np.array([result.read_at - produced for result, produced in timed]),
        "written": np.array([result.written_at - produced for result, produced in timed]),
    }


def _cost(result: CollectedResult, outcomes: OutcomesByPosition) -> int:
    """Return a query's cost in picodollars by its outcome; `NO_OUTCOME_PICO` without one."""
    routing = result.routing
    place = None if routing is None else (routing.partition, routing.offset, routing.attempt)
    outcome = None if place is None else outcomes.get(place)
    if routing is None or outcome is None or (outcome.id, outcome.model) != (result.id, routing.model):
        return NO_OUTCOME_PICO
    return int(to_pico(outcome.cost))


def _sum(outcomes: Sequence[SimulationResult], models: int) -> SimulationResult:
    return SimulationResult(
        performance=sum(outcome.performance for outcome in outcomes),
        cost=sum(outcome.cost for outcome in outcomes),
        throughput=sum(outcome.throughput for outcome in outcomes),
        counted=np.concatenate([np.zeros(0, bool), *(outcome.counted for outcome in outcomes)]),
        spent=sum((outcome.spent for outcome in outcomes), np.zeros(models)),
    )
