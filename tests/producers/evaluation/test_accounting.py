"""The accounting of a replay, without a broker: places, order, periods, the rule and what breaks it."""

import numpy as np
import pytest

from producers.evaluation.accounting import latencies, locate_queries, routed_order, score_replay
from producers.evaluation.budgets import budgets_of
from producers.evaluation.queries import ReplayQueries, select_queries
from producers.result_collector import DEAD, UNSERVED, CollectedResult
from routing.budgets.budget import Budget
from routing.budgets.catalogue import Catalogue
from routing.budgets.counters import Counters
from routing.budgets.model import Model
from routing.history.history import History
from streams.messages.outcome import (
    Outcome,
)
from streams.messages.routing_info import RoutingInfo

HISTORY = History(
    ids=["a", "b", "c", "d"],
    prompts=["1", "2", "3", "4"],
    tasks=["y", "x", "y", "x"],
    models=["small", "large"],
    quality=np.array([[0.1, 1.0], [0.2, 0.9], [0.3, 0.8], [0.4, 0.7]]),
    cost=np.array([[1.0, 4.0]] * 4),
)


def per_llm(small: float, large: float) -> Counters:
    models = (Model("small", budget_usd=small), Model("large", budget_usd=large))
    return budgets_of(Catalogue(models), HISTORY)


def arrived(
    identity: str, where: int, partition: int = 0, offset: int = 0, **fields: object
) -> CollectedResult:
    routing = RoutingInfo.decode({"routing": {"partition": partition, "offset": offset, **fields}})
    return CollectedResult(identity, where, partition, offset, routing, None, 2.0, 3.0)


# --- places -------------------------------------------------------------------------------------------------


def test_locate_queries_each_query_is_counted_once():
    places = locate_queries(
        ["a", "b", "c", "d"],
        [arrived("a", 0), arrived("b", 1), arrived("c", UNSERVED), arrived("d", DEAD)],
    )

    assert (places.queries, places.served, places.unserved, places.dead) == (4, 2, 1, 1)
    assert (places.missing, places.twice, places.foreign) == ([], [], [])


def test_locate_queries_missing_duplicated_and_foreign_are_listed():
    places = locate_queries(
        ["a", "b", "c"], [arrived("a", 0), arrived("a", UNSERVED), arrived("b", 1), arrived("z", 1)]
    )

    assert (places.missing, places.twice, places.foreign) == (["c"], ["a"], ["z"])
    assert (places.served, places.unserved) == (2, 0)


def test_locate_queries_follows_the_attempts_of_returned_queries():
    results = [
        arrived("a", 0),
        arrived("a", 1, attempt=2),
        arrived("b", 0),
        arrived("b", UNSERVED, attempt=2),
        arrived("c", 0),
        arrived("c", 1, attempt=2),
        arrived("c", 0, attempt=2),
        arrived("d", UNSERVED),
        arrived("d", 1, attempt=2),
    ]
    places = locate_queries(["a", "b", "c", "d"], results)
    assert places.twice == ["c", "d"], "an attempt has one place, and an unserved query no further one"
    assert (places.served, places.unserved) == (3, 1)
    assert [(one.id, one.destination) for one in places.last][:2] == [("a", 1), ("b", UNSERVED)]
    assert [(one.id, one.destination) for one in places.first][:2] == [("a", 0), ("b", 0)]


# --- order --------------------------------------------------------------------------------------------------


def test_routed_order_single_partition_is_by_offset():
    arrivals = [arrived("a", 0, 0, 2, routed_at=1.0), arrived("b", 0, 0, 1, routed_at=9.0)]

    assert [arrival.id for arrival in routed_order(arrivals)] == ["b", "a"]


def test_routed_order_several_partitions_is_by_decision_time():
    arrivals = [
        arrived("a", 0, 0, 9, routed_at=1.0),
        arrived("b", 0, 1, 0, routed_at=3.0),
        arrived("c", 0, 0, 2, routed_at=1.0),
        arrived("d", UNSERVED, 0, 1, routed_at=0.0),
    ]

    assert [arrival.id for arrival in routed_order(arrivals)] == ["c", "a", "b"]


# --- the rule -----------------------------------------------------------------------------------------------


def test_score_replay_query_beyond_the_budget_is_lost():
    queries = ReplayQueries(HISTORY, np.arange(4))
    arrivals = [arrived(identity, 0, offset=i, cost=0.5) for i, identity in enumerate("abcd")]

    score = score_replay(arrivals, queries, per_llm(2.5, 9.0))

    assert score.outcome.performance == pytest.approx(0.1 + 0.2)
    assert score.outcome.spent.tolist() == [2.0, 0.0]
    assert (score.outcome.throughput, score.lost) == (2, 2)
    assert score.sent.tolist() == [4, 0]
    assert score.reserved.tolist() == [2.0, 0.0]
    assert score.over_budget == []


def test_score_replay_overspending_is_exact_to_the_picodollar():
    queries = ReplayQueries(HISTORY, np.arange(4))
    arrivals = [arrived("a", 1, offset=0, cost=0.1), arrived("b", 1, offset=1, cost=0.2)]

    assert score_replay(arrivals, queries, per_llm(1.0, 0.3)).over_budget == []
    assert score_replay(arrivals, queries, per_llm(1.0, 0.3 - 1e-12)).over_budget == ["large"]


def decided(identity: str, cost: float, offset: int) -> CollectedResult:
    """By the overflow lane: its place is its own, and where it came from is beside it."""
    routing = {"model": "large", "cost": cost, "partition": 3, "offset": offset, "source": [0, 7 + offset]}
    decision = RoutingInfo.decode({"routing": routing})
    return CollectedResult(identity, 1, 0, 7 + offset, decision, None, 2.0, 3.0)


def settled(identity: str, offset: int, cost: float, model: str = "large", partition: int = 3) -> dict:
    return {(partition, offset, 1): Outcome(identity, model, cost, None, partition, offset)}


def test_score_replay_released_money_may_be_spent_again():
    queries, budgets = ReplayQueries(HISTORY, np.arange(4)), per_llm(1.0, 0.3)
    arrivals = [decided("a", 0.2, 0), decided("b", 0.2, 1)]

    assert score_replay(arrivals, queries, budgets).over_budget == ["large"]
    score = score_replay(arrivals, queries, budgets, settled("a", 0, 0.1))
    assert (score.over_budget, score.reserved.tolist()) == ([], [0.0, 0.4])
    assert score_replay(arrivals, queries, budgets, settled("a", 0, 0.1 + 1e-12)).over_budget == ["large"]
    assert score_replay(arrivals, queries, budgets, settled("b", 1, 0.0)).over_budget == []


def test_score_replay_cost_above_reservation_is_not_overspending():
    arrivals = [decided("a", 0.2, 0)]

    score = score_replay(
        arrivals, ReplayQueries(HISTORY, np.arange(4)), per_llm(1.0, 0.3), settled("a", 0, 0.9)
    )

    assert score.over_budget == []


@pytest.mark.parametrize(
    "outcome",
    [
        settled("b", 0, 0.0),
        settled("a", 1, 0.0),
        settled("a", 0, 0.0, "small"),
        settled("a", 0, 0.0, "large", 2),
    ],
)
def test_score_replay_outcome_of_another_query_releases_nothing(outcome: dict):
    arrivals = [decided("a", 0.4, 0)]

    score = score_replay(arrivals, ReplayQueries(HISTORY, np.arange(4)), per_llm(1.0, 0.3), outcome)

    assert score.over_budget == ["large"]


def test_score_replay_each_period_has_its_own_budget():
    queries = ReplayQueries(HISTORY, np.arange(4))
    arrivals = [
        arrived("a", 0, offset=0, period=1, cost=1.0),
        arrived("b", 0, offset=1, period=1, cost=1.0),
        arrived("c", 0, offset=2, period=2, cost=1.0),
        arrived("d", 1, offset=3, period=2, cost=1.0),
    ]

    score = score_replay(arrivals, queries, per_llm(1.0, 4.0))

    assert score.periods == 2
    assert score.limits.tolist() == [2.0, 8.0]
    assert score.spent.tolist() == [2.0, 4.0]
    assert score.outcome.performance == pytest.approx(0.1 + 0.3 + 0.7)
    assert score.outcome.cost == pytest.approx(1 + 1 + 4)
    assert score.lost == 1
    assert score.over_budget == ["small"]


def test_score_replay_shared_total_and_groups_limit_all_llms():
    queries = ReplayQueries(HISTORY, np.arange(4))
    team = Budget("task", group_by="metadata.task", limits={"x": 4.0}, default=9.0)
    catalogue = Catalogue((Model("small"), Model("large")), budget_usd=6.0, budgets=(team,))
    arrivals = [
        arrived("a", 0, offset=0, cost=1.0),
        arrived("b", 1, offset=1, cost=4.0),
        arrived("c", 1, offset=2, cost=3.0),
        arrived("d", 0, offset=3, cost=1.0),
    ]

    score = score_replay(arrivals, queries, budgets_of(catalogue, HISTORY))

    # "c" is beyond the total; "d" is beyond the limit of its task
    assert (score.outcome.performance, score.lost) == (pytest.approx(0.1 + 0.9), 2)
    by_counter = dict(zip(score.counters.names, score.spent.tolist(), strict=True))
    assert by_counter == {"total": 5.0, "task=x": 4.0, "task=": 0.0, "task=other": 0.0, "task=y": 1.0}
    assert score.over_budget == ["total", "task=x"]


def test_score_replay_nothing_routed_scores_zero():
    score = score_replay([arrived("a", UNSERVED)], ReplayQueries(HISTORY, np.arange(4)), per_llm(1.0, 1.0))

    assert (score.outcome.performance, score.outcome.throughput, score.lost) == (0, 0, 0)
    assert score.periods == 1


def test_latencies_start_at_production():
    seconds = latencies([arrived("a", 0), arrived("z", 0)], {"a": 1.5})

    assert seconds["written"].tolist() == [0.5]
    assert seconds["read"].tolist() == [1.5]


# --- what is asked ------------------------------------------------------------------------------------------


def test_select_queries_orders_are_applied():
    assert select_queries(HISTORY, "file").ids == ["a", "b", "c", "d"]
    assert select_queries(HISTORY, "task").ids == ["b", "d", "a", "c"]
    shuffled = select_queries(HISTORY, "random", seed=1).ids
    assert shuffled == select_queries(HISTORY, "random", seed=1).ids
    assert sorted(shuffled) == ["a", "b", "c", "d"]
    assert shuffled != select_queries(HISTORY, "random", seed=2).ids


def test_select_queries_repeated_rows_have_unique_ids():
    queries = select_queries(HISTORY, "file", limit=2, repeat=2)

    assert queries.ids == ["a", "b", "a#2", "b#2"]
    assert queries.prompts == ["1", "2", "1", "2"]
    assert queries.quality[:, 1].tolist() == [1.0, 0.9, 1.0, 0.9]
    assert queries.index_by_id["b#2"] == 3
