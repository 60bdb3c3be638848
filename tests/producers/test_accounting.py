"""The accounting of a replay, without a broker: places, order, periods, the rule and what breaks it."""

import numpy as np
import pytest

from producers.accounting import achieve, latencies, place_all, routed_order
from producers.asked import Asked, ask
from producers.collecting import DEAD, UNSERVED, Arrival
from routing.history import History
from streams.messages import Outcome

HISTORY = History(
    ids=["a", "b", "c", "d"],
    prompts=["1", "2", "3", "4"],
    tasks=["y", "x", "y", "x"],
    models=["small", "large"],
    quality=np.array([[0.1, 1.0], [0.2, 0.9], [0.3, 0.8], [0.4, 0.7]]),
    cost=np.array([[1.0, 4.0]] * 4),
)


def arrived(identity: str, where: int, partition: int = 0, offset: int = 0, **routing: object) -> Arrival:
    return Arrival(identity, where, partition, offset, routing, 2.0, 3.0)


# --- places -------------------------------------------------------------------------------------------------


def test_each_query_is_counted_once_where_it_is():
    places = place_all(
        ["a", "b", "c", "d"],
        [arrived("a", 0), arrived("b", 1), arrived("c", UNSERVED), arrived("d", DEAD)],
    )

    assert (places.queries, places.served, places.unserved, places.dead) == (4, 2, 1, 1)
    assert (places.missing, places.twice, places.foreign) == ([], [], [])


def test_missing_twice_and_foreign_are_told_apart():
    places = place_all(
        ["a", "b", "c"], [arrived("a", 0), arrived("a", UNSERVED), arrived("b", 1), arrived("z", 1)]
    )

    assert (places.missing, places.twice, places.foreign) == (["c"], ["a"], ["z"])
    assert (places.served, places.unserved) == (2, 0)


# --- order --------------------------------------------------------------------------------------------------


def test_one_partition_is_in_the_order_of_its_offsets_whatever_the_clocks_say():
    arrivals = [arrived("a", 0, 0, 2, routed_at=1.0), arrived("b", 0, 0, 1, routed_at=9.0)]

    assert [arrival.id for arrival in routed_order(arrivals)] == ["b", "a"]


def test_several_partitions_are_in_the_order_of_their_decisions():
    arrivals = [
        arrived("a", 0, 0, 9, routed_at=1.0),
        arrived("b", 0, 1, 0, routed_at=3.0),
        arrived("c", 0, 0, 2, routed_at=1.0),
        arrived("d", UNSERVED, 0, 1, routed_at=0.0),
    ]

    assert [arrival.id for arrival in routed_order(arrivals)] == ["c", "a", "b"]


# --- the rule -----------------------------------------------------------------------------------------------


def test_a_query_that_the_budget_no_longer_pays_is_lost_and_costs_nothing():
    asked = Asked(HISTORY, np.arange(4))
    arrivals = [arrived(identity, 0, offset=i, cost=0.5) for i, identity in enumerate("abcd")]

    found = achieve(arrivals, asked, np.array([2.5, 9.0]))

    assert found.outcome.performance == pytest.approx(0.1 + 0.2)
    assert found.outcome.spent.tolist() == [2.0, 0.0]
    assert (found.outcome.throughput, found.lost) == (2, 2)
    assert found.sent.tolist() == [4, 0]
    assert found.reserved.tolist() == [2.0, 0.0]
    assert found.over_budget == []


def test_reserving_beyond_a_budget_is_found_to_the_picodollar():
    asked = Asked(HISTORY, np.arange(4))
    arrivals = [arrived("a", 1, offset=0, cost=0.1), arrived("b", 1, offset=1, cost=0.2)]

    assert achieve(arrivals, asked, np.array([1.0, 0.3])).over_budget == []
    assert achieve(arrivals, asked, np.array([1.0, 0.3 - 1e-12])).over_budget == ["large"]


def decided(identity: str, cost: float, offset: int) -> Arrival:
    """By the overflow lane: its place is its own, and where it came from is beside it."""
    routing = {"model": "large", "cost": cost, "partition": 3, "offset": offset, "source": [0, 7 + offset]}
    return Arrival(identity, 1, 0, 7 + offset, routing, 2.0, 3.0)


def settled(identity: str, offset: int, cost: float, model: str = "large", partition: int = 3) -> dict:
    return {(partition, offset): Outcome(identity, model, cost, None, partition, offset)}


def test_money_that_an_outcome_gave_back_may_be_used_again():
    asked, budgets = Asked(HISTORY, np.arange(4)), np.array([1.0, 0.3])
    arrivals = [decided("a", 0.2, 0), decided("b", 0.2, 1)]

    assert achieve(arrivals, asked, budgets).over_budget == ["large"]
    found = achieve(arrivals, asked, budgets, settled("a", 0, 0.1))
    assert (found.over_budget, found.reserved.tolist()) == ([], [0.0, 0.4])
    assert achieve(arrivals, asked, budgets, settled("a", 0, 0.1 + 1e-12)).over_budget == ["large"]
    assert achieve(arrivals, asked, budgets, settled("b", 1, 0.0)).over_budget == []


def test_an_answer_dearer_than_reserved_is_no_fault_of_the_router():
    arrivals = [decided("a", 0.2, 0)]

    found = achieve(arrivals, Asked(HISTORY, np.arange(4)), np.array([1.0, 0.3]), settled("a", 0, 0.9))

    assert found.over_budget == []


@pytest.mark.parametrize(
    "outcome",
    [
        settled("b", 0, 0.0),
        settled("a", 1, 0.0),
        settled("a", 0, 0.0, "small"),
        settled("a", 0, 0.0, "large", 2),
    ],
)
def test_an_outcome_of_another_query_gives_nothing_back(outcome: dict):
    arrivals = [decided("a", 0.4, 0)]

    found = achieve(arrivals, Asked(HISTORY, np.arange(4)), np.array([1.0, 0.3]), outcome)

    assert found.over_budget == ["large"]


def test_each_period_has_its_own_budget():
    asked = Asked(HISTORY, np.arange(4))
    arrivals = [
        arrived("a", 0, offset=0, period=1, cost=1.0),
        arrived("b", 0, offset=1, period=1, cost=1.0),
        arrived("c", 0, offset=2, period=2, cost=1.0),
        arrived("d", 1, offset=3, period=2, cost=1.0),
    ]

    found = achieve(arrivals, asked, np.array([1.0, 4.0]))

    assert found.periods == 2
    assert found.budgets.tolist() == [2.0, 8.0]
    assert found.outcome.performance == pytest.approx(0.1 + 0.3 + 0.7)
    assert found.outcome.cost == pytest.approx(1 + 1 + 4)
    assert found.lost == 1
    assert found.over_budget == ["small"]


def test_nothing_routed_is_nothing_achieved():
    found = achieve([arrived("a", UNSERVED)], Asked(HISTORY, np.arange(4)), np.array([1.0, 1.0]))

    assert (found.outcome.performance, found.outcome.throughput, found.lost) == (0, 0, 0)
    assert found.periods == 1


def test_latencies_are_from_producing():
    found = latencies([arrived("a", 0), arrived("z", 0)], {"a": 1.5})

    assert found["written"].tolist() == [0.5]
    assert found["read"].tolist() == [1.5]


# --- what is asked ------------------------------------------------------------------------------------------


def test_orders_of_asking():
    assert ask(HISTORY, "file").ids == ["a", "b", "c", "d"]
    assert ask(HISTORY, "task").ids == ["b", "d", "a", "c"]
    shuffled = ask(HISTORY, "random", seed=1).ids
    assert shuffled == ask(HISTORY, "random", seed=1).ids
    assert sorted(shuffled) == ["a", "b", "c", "d"]
    assert shuffled != ask(HISTORY, "random", seed=2).ids


def test_rows_asked_again_have_ids_of_their_own_and_the_same_answers():
    asked = ask(HISTORY, "file", limit=2, repeat=2)

    assert asked.ids == ["a", "b", "a#2", "b#2"]
    assert asked.prompts == ["1", "2", "1", "2"]
    assert asked.quality[:, 1].tolist() == [1.0, 0.9, 1.0, 0.9]
    assert asked.places["b#2"] == 3
