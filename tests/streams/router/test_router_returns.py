"""Queries that fleets return: each attempt is settled once, and the query goes to another LLM, once."""

from collections import Counter

import numpy as np
import orjson
import pytest

from routing.budgets.money import PICO, to_pico
from routing.policy.pause import Pause
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.returned import return_headers
from tests.streams.router.memory_router import (
    POOL,
    MemoryRouter,
    deliver_outcomes,
    outcome_of,
    plan_with,
    waiting_plan,
)

HEADERS = [("own", b"1")]


def deliver_returns(router: MemoryRouter, lane) -> None:
    """Put the waiting returned queries into the lane's inbox, as the reader does."""
    offset, inbox = router.returned.watched[lane.lane]
    topic = router.topics.of(router.names.returned, lane.lane)
    inbox.extend(topic[offset:])  # type: ignore[attr-defined]
    router.returned.watched[lane.lane] = (len(topic), inbox)


def give_back(router: MemoryRouter, query: dict, cost: float = 0.0, **changes: object) -> None:
    """Return a query as a fleet does."""
    query = {**query, "routing": {**query["routing"], **changes}}
    headers = [*HEADERS, *return_headers("timeout", cost, 5)]
    router.topics.add(router.names.returned, orjson.dumps(query), query["routing"]["partition"], headers)


def newest(router: MemoryRouter, identity: str) -> dict:
    """Return the newest routed message of a query."""
    return max(
        (query for query in router.routed() if query["id"] == identity),
        key=lambda query: query["routing"]["attempt"],
    )


def again(router: MemoryRouter, lane, identity: str, cost: float = 0.0) -> None:
    give_back(router, newest(router, identity), cost)
    deliver_returns(router, lane)
    router.step(lane)


@pytest.fixture
def router() -> MemoryRouter:
    router = MemoryRouter()
    router.send("a", headers=HEADERS)
    return router


def test_returned_query_goes_to_another_llm_and_its_attempt_is_settled_at_its_cost(router):
    lane = router.open_lane()
    router.deliver(lane)
    first = newest(router, "a")
    again(router, lane, "a", cost=1e-5)

    second = newest(router, "a")
    assert second["routing"]["attempt"] == 2
    assert second["routing"]["tried"] == [first["routing"]["model"]]
    assert second["routing"]["model"] != first["routing"]["model"]
    assert (second["routing"]["partition"], second["routing"]["offset"]) == (0, 0)
    assert {key: second[key] for key in ("id", "prompt", "team")} == {
        key: first[key] for key in ("id", "prompt", "team")
    }
    (message,) = [
        message
        for model in router.catalogue.models.values()
        for message in router.topics.of(router.names.llm(model.slug))
        if orjson.loads(message.value())["routing"]["attempt"] == 2
    ]
    assert message.headers() == HEADERS, "the headers of the return are removed"
    account = router.ledger(0).account
    at = router.plans.latest.models.index(first["routing"]["model"])
    assert account.settled[at] == int(to_pico(1e-5))
    assert account.charged[at] == int(to_pico(1e-5)), "the rest of the reservation is free again"
    assert account.failed.sum() == account.settlements.sum() == 1
    assert (account.arrived, account.again, account.served.sum()) == (1, 1, 2)
    assert router.ledger(0).returns == {"returned": 1}


def test_query_that_all_llms_return_is_unserved_with_all_that_were_tried(router):
    lane = router.open_lane()
    router.deliver(lane)
    for _ in range(3):
        again(router, lane, "a")
    (message,) = router.topics.of(router.names.unserved)
    body = orjson.loads(message.value())
    assert body["reason"] == "all_failed"
    assert body["routing"]["attempt"] == 4
    assert sorted(body["routing"]["tried"]) == sorted(router.plans.latest.models)
    assert message.headers() == HEADERS
    account = router.ledger(0).account
    assert (account.arrived, account.again, account.unserved) == (1, 3, 1)
    assert account.charged.sum() == 0


def test_max_attempts_limits_the_llms_that_are_tried():
    router = MemoryRouter(max_attempts=1)
    router.send("a")
    lane = router.open_lane()
    router.deliver(lane)
    again(router, lane, "a")
    assert orjson.loads(router.topics.of(router.names.unserved)[0].value())["reason"] == "all_failed"


def test_duplicates_and_contradictions_are_refused_before_and_after_a_restart(router):
    lane = router.open_lane()
    router.deliver(lane)
    first = newest(router, "a")
    again(router, lane, "a", cost=1e-5)
    for _ in range(2):
        give_back(router, first, 1e-5)  # a duplicate
        give_back(router, first, 2e-5)  # another cost
        give_back(router, first, offset=10**6)
        give_back(router, first, attempt=7)
        router.topics.add(router.names.outcomes, outcome_of(first, 1e-5), 0)
        deliver_returns(router, lane)
        deliver_outcomes(router, lane)
        router.step(lane)
        lane.close()
        lane = router.open_lane()
    second = newest(router, "a")
    assert second["routing"]["attempt"] == 2
    answer = orjson.loads(outcome_of(second, 3e-5)) | {"attempt": 2}
    router.topics.add(router.names.outcomes, orjson.dumps(answer), 0)
    deliver_outcomes(router, lane)
    router.step(lane)
    give_back(router, second, 3e-5)  # after its outcome
    deliver_returns(router, lane)
    router.step(lane)

    record = router.ledger(0)
    assert record.returns == {"returned": 1, "duplicate": 2, "contradictory": 3, "unknown": 4}
    assert record.outcomes == {"contradictory": 2, "settled": 1}
    reasons = [
        split_dead_letter_headers(letter.headers())[1]["exception.message"].split(":", 1)[1].strip()
        for letter in router.topics.of(router.names.outcomes_dlq)
    ]
    assert sum("was returned before" in reason for reason in reasons) == 2
    assert sum("was settled by an outcome before" in reason for reason in reasons) == 1
    assert sum("has no attempt 7" in reason for reason in reasons) == 2
    assert record.account.charged.sum() == int(to_pico(1e-5)) + int(to_pico(3e-5))
    assert len(router.routed()) == 2


def test_restart_between_return_and_commit_decides_once(router):
    lane = router.open_lane()
    router.deliver(lane)
    give_back(router, newest(router, "a"))
    deliver_returns(router, lane)
    router.topics.fail = lambda: (_ for _ in ()).throw(RuntimeError("killed"))
    with pytest.raises(RuntimeError):
        router.step(lane)
    router.topics.fail = lambda: None
    assert [query["routing"]["attempt"] for query in router.routed()] == [1]
    lane = router.open_lane()
    deliver_returns(router, lane)
    router.step(lane)
    assert sorted(query["routing"]["attempt"] for query in router.routed()) == [1, 2]
    lane.close()
    lane = router.open_lane()
    assert router.returned.watched[0][0] == 1
    router.step(lane)
    assert len(router.routed()) == 2


def test_returns_wait_while_prices_are_learned(router):
    lane = router.open_lane()
    router.deliver(lane)
    router.plans.latest = waiting_plan(period=2, revision=6)
    give_back(router, newest(router, "a"))
    deliver_returns(router, lane)
    lane.refresh_plan()
    lane.process([])
    assert len(router.routed()) == 1
    router.plans.latest = plan_with(period=2, revision=7)
    router.step(lane)
    assert newest(router, "a")["routing"] | {"period": 2, "attempt": 2} == newest(router, "a")["routing"]
    record = router.ledger(0)
    assert record.account_of(1).failed.sum() == 1, "the attempt settles in its own period"
    assert (record.account.arrived, record.account.again) == (0, 1)


def test_query_that_its_lane_cannot_pay_again_goes_through_the_overflow_lane_and_back(router):
    lane = router.open_lane()
    router.deliver(lane)
    first = newest(router, "a")
    empty = np.zeros((3, 3), dtype=np.int64)
    empty[0] = router.ledger(0).account.charged
    empty[POOL] = PICO // 100
    router.plans.latest = plan_with(revision=6, granted=empty, target=empty)
    again(router, lane, "a")
    assert len(router.routed()) == 1
    assert router.ledger(0).account.deferred == 1
    pool = router.open_lane(POOL)
    router.deliver(pool)
    second = newest(router, "a")
    assert second["routing"]["partition"] == POOL
    assert second["routing"]["source"] == [0, 0]
    assert second["routing"]["attempt"] == 2
    assert second["routing"]["tried"] == [first["routing"]["model"]]
    again(router, pool, "a")
    third = newest(router, "a")
    assert third["routing"]["attempt"] == 3
    assert third["routing"]["source"] == [0, 0]
    assert len({query["routing"]["model"] for query in router.routed()}) == 3
    pool.close()
    pool = router.open_lane(POOL)
    again(router, pool, "a")
    assert orjson.loads(router.topics.of(router.names.unserved)[0].value())["reason"] == "all_failed"


@pytest.mark.parametrize("learned", [True, False])
def test_paused_llm_gets_no_query_and_keeps_its_budget(learned):
    router = MemoryRouter(warmup="random")
    router.send(*(f"q{number}" for number in range(200)))
    ample = np.full((3, 3), PICO, dtype=np.int64)
    rich = {"learned": learned, "granted": ample, "target": ample, "budgets": ample.sum(0)}
    lane = router.open_lane()
    router.plans.latest = plan_with(**rich)
    router.deliver(lane, 100)
    counts = Counter(query["routing"]["model"] for query in router.routed())
    ((favourite, before),) = counts.most_common(1)
    router.plans.latest = plan_with(**rich, revision=6, paused={favourite: Pause("failed", router.now)})
    router.deliver(lane)
    assert sum(query["routing"]["model"] == favourite for query in router.routed()) == before > 10
    assert router.ledger(0).account.arrived == 200
    account, plan = router.ledger(0).account, router.plans.latest
    at = plan.models.index(favourite)
    assert account.released[at] == 0
    router.send(*(f"t{number}" for number in range(200)))
    paused = {favourite: Pause("failed", router.now, share=0.25)}
    router.plans.latest = plan_with(**rich, revision=7, paused=paused)
    router.deliver(lane)
    tested = [
        query for query in router.routed() if query["id"][0] == "t" and query["routing"]["model"] == favourite
    ]
    assert 5 <= len(tested) <= 75, "the share that tests it"


@pytest.mark.parametrize("learned", [True, False])
def test_expired_query_is_unserved_at_once_and_after_a_return(learned):
    router = MemoryRouter(warmup="random")
    router.plans.latest = plan_with(learned=learned)
    soon = int(1000 * router.now) + 1000
    for name, deadline in (("late", int(1000 * router.now)), ("soon", soon), ("none", None)):
        value = orjson.dumps({"id": name, "prompt": "abc", "deadline": deadline})
        router.topics.add(router.names.queries, value, 0)
    lane = router.open_lane()
    router.deliver(lane)
    assert {query["id"] for query in router.routed()} == {"soon", "none"}
    router.now += 1
    again(router, lane, "soon")
    again(router, lane, "none")
    unserved = [orjson.loads(message.value()) for message in router.topics.of(router.names.unserved)]
    assert [(body["id"], body["reason"]) for body in unserved] == [("late", "expired"), ("soon", "expired")]
    assert newest(router, "none")["routing"]["attempt"] == 2
    assert router.ledger(0).account.deferred == 0


@pytest.mark.parametrize(("status", "failed"), [("ok", 0), ("failed", 1), ("expired", 0)])
def test_outcome_with_status_counts_as_a_failure_of_the_llm_or_not(router, status, failed):
    lane = router.open_lane()
    router.deliver(lane)
    outcome = orjson.loads(outcome_of(newest(router, "a"), 1e-5)) | {"status": status}
    router.topics.add(router.names.outcomes, orjson.dumps(outcome), 0)
    deliver_outcomes(router, lane)
    router.step(lane)
    account = router.ledger(0).account
    assert (account.failed.sum(), account.settlements.sum()) == (failed, 1)


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (None, return_headers("x", 0.0)),
        (b"not JSON", return_headers("x", 0.0)),
        (b'{"id":"a"}', return_headers("x", 0.0)),
        (b'{"id":"a","routing":{"partition":0,"offset":0}}', return_headers("x", 0.0)),
        (b'{"id":"a","routing":{"partition":0,"offset":0,"model":"small"}}', []),
        (b'{"id":"a","routing":{"partition":0,"offset":0,"model":"small"}}', return_headers("", 0.0)),
        (
            b'{"id":"a","routing":{"partition":0,"offset":0,"model":"small"}}',
            [("__router.return.reason", b"x"), ("__router.return.cost", b"nan")],
        ),
    ],
)
def test_malformed_returns_become_dead_letters(router, value, headers):
    lane = router.open_lane()
    router.deliver(lane)
    router.topics.add(router.names.returned, value, 0, headers)
    deliver_returns(router, lane)
    router.step(lane)
    assert router.ledger(0).returns == {"refused": 1}
    (letter,) = router.topics.of(router.names.outcomes_dlq)
    assert letter.value() == value
    assert split_dead_letter_headers(letter.headers())[1]["topic"] == "queries.returned"
