"""The router's processor: one place per query, and ledgers that match the topics."""

from dataclasses import replace

import numpy as np
import orjson
import pytest
from confluent_kafka import KafkaException
from jsonschema import Draft202012Validator

from routing.budgets.cost_quantile import CostQuantile
from routing.budgets.money import PICO, read_pico
from streams.ledger.reservations import decode_reservations
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.deferred import (
    OVERFLOW_HEADER,
)
from streams.messages.json_schemas import message_schema
from streams.messages.routing_info import RoutingInfo
from streams.router.charges import AnswerLimit, charge_bounds
from tests.streams.router.memory_router import POOL, PRICED, MemoryRouter, ids, plan_with
from tests.streams.stepped_router import MODELS


def test_route_all_queries_puts_each_in_one_place_and_in_the_ledger(router):
    rich = np.full((3, 3), PICO, dtype=np.int64)
    router.plans.latest = plan_with(granted=rich, target=rich)
    processor = router.open_lane()
    router.send(*ids(30))
    router.topics.add(router.names.queries, b'{"id": "bad", "prompt": ""}')
    router.send(*ids(20, 30))
    while router.deliver(processor, 7):
        pass
    places = router.places()
    assert set(places) == {*ids(50), "bad"}
    assert all(len(where) == 1 for where in places.values())
    assert places["bad"] == ["dlq"]
    record = router.ledger(0)
    assert (record.next, record.account.arrived, record.account.dead) == (51, 50, 1)
    router.assert_ledgers_match_topics(0)
    assert all(query["team"] == 7 for query in router.routed())


def test_route_invalid_query_produces_dead_letter_with_reason_and_original_bytes(router):
    processor = router.open_lane()
    message = router.topics.add(router.names.queries, b'{"id":  1}', headers=[("traceparent", b"t")])
    router.deliver(processor)
    letter = router.topics.of(router.names.dlq)[0]
    original, errors = split_dead_letter_headers(letter.headers())
    assert (letter.value(), original) == (message.value(), [("traceparent", b"t")])
    assert (errors["topic"], errors["offset"], errors["stage"]) == (router.names.queries, "0", "decode")


def test_route_batch_produces_reservations_with_decisions_and_grants(router):
    processor = router.open_lane()
    router.send(*ids(9))
    router.deliver(processor)
    (message,) = router.topics.of(router.names.reservations)
    reserved = decode_reservations(message.value())
    by_offset = {query["routing"]["offset"]: query for query in router.routed()}
    assert reserved.offsets.tolist() == sorted(by_offset)
    for offset, model, charge in zip(reserved.offsets, reserved.model, reserved.charge, strict=True):
        routing = by_offset[int(offset)]["routing"]
        assert routing["model"] == MODELS[model]
        assert int(read_pico(routing["cost"])) == charge
    assert (reserved.begin, reserved.end, reserved.revision) == (0, 9, 5)
    assert reserved.available.tolist() == [PICO // 100] * 3


def test_route_without_grants_defers_queries_to_overflow_lane(router):
    granted = np.array([[0, 0, 0], [0, 0, 0], [PICO, PICO, PICO]], dtype=np.int64)
    router.plans.latest = plan_with(granted=granted, target=granted)
    processor, pool = router.open_lane(0), router.open_lane(POOL)
    router.send(*ids(20), headers=[("traceparent", b"t")])
    router.deliver(processor)
    deferred = len(router.topics.of(router.names.overflow))
    assert deferred + len(router.topics.of(router.names.unserved)) == 20
    assert deferred > 0
    router.deliver(pool)
    assert set(router.places()) == set(ids(20))
    for query in router.routed():
        assert query["routing"]["partition"] == POOL
        assert query["routing"]["source"][0] == 0
        assert query["id"] == f"q{query['routing']['source'][1]}"
    for name in MODELS:
        for message in router.topics.of(router.names.llm(router.catalogue.models[name].slug)):
            assert message.headers() == [("traceparent", b"t")]
    assert router.ledger(0).account.deferred == deferred
    router.assert_ledgers_match_topics(0, POOL)


def test_route_llm_missing_from_catalogue_uses_topic_of_its_name(router):
    """A worker that starts after `plan apply` removed an LLM has a catalogue without it."""
    router.catalogue.models.clear()
    router.send(*ids(20))
    router.deliver(router.open_lane(0))
    reached = {name: len(router.topics.of(router.names.llm(name.replace("/", "-")))) for name in MODELS}
    assert sum(reached.values()) == router.ledger(0).account.served.sum() > 0


def test_route_with_bounds_writes_paid_answer_tokens_into_message(router):
    """A deferred query keeps the bound of the lane that deferred it, even if the default changes."""
    priced = dict.fromkeys(MODELS, (0.01, 0.01))
    router.shared = replace(router.shared, charge=charge_bounds(lambda plan: priced, 50))
    granted = np.array([[PICO] * 3, [0] * 3, [PICO] * 3], dtype=np.int64)
    router.plans.latest = plan_with(granted=granted, target=granted)
    router.send("own", most=9)
    router.send("default")
    router.send("deferred", lane=1)
    router.send("deferred own", lane=1, most=9)
    router.deliver(router.open_lane(0))
    router.deliver(router.open_lane(1))
    assert len(router.topics.of(router.names.overflow)) == 2
    router.shared = replace(router.shared, charge=charge_bounds(lambda plan: priced, 5000))
    router.deliver(router.open_lane(POOL))
    bounds = {query["id"]: query["routing"]["max_tokens"] for query in router.routed()}
    assert bounds == {"own": 9, "default": 50, "deferred": 50, "deferred own": 9}


def test_route_with_a_percentile_limits_answers_to_twice_their_reservation(router):
    priced = dict.fromkeys(MODELS, (0.0, 0.01))
    quantile = CostQuantile(0.95, dict.fromkeys(MODELS, 1.5))
    router.shared = replace(router.shared, answer_limit=AnswerLimit("p95", quantile, lambda plan: priced))
    granted = np.array([[PICO] * 3, [0] * 3, [PICO] * 3], dtype=np.int64)
    router.plans.latest = plan_with(granted=granted, target=granted)
    router.send(*ids(5))
    router.send("deferred", lane=1)
    router.deliver(router.open_lane(0))
    router.deliver(router.open_lane(1))
    router.deliver(router.open_lane(POOL))
    routed = [RoutingInfo.decode(query) for query in router.routed()]
    assert len(routed) == 6
    for routing in routed:
        assert (routing.reserve, routing.bound) == ("p95", None)
        assert routing.max_tokens is not None
        assert routing.max_tokens * 0.01e-6 == pytest.approx(2 * routing.cost, abs=0.01e-6)


def test_route_with_estimates_writes_no_answer_tokens(router):
    router.send(*ids(5))
    router.deliver(router.open_lane(0))
    assert router.routed()
    assert not any("max_tokens" in query["routing"] for query in router.routed())


def test_route_deferred_queries_of_wider_or_narrower_plan_decides_them(router):
    """After a catalogue change, the pool's plan may be newer or older than the plan that deferred a query."""
    nothing = np.zeros((3, 3), dtype=np.int64)
    router.plans.latest = plan_with(granted=nothing, target=nothing)
    processor, pool = router.open_lane(0), router.open_lane(POOL)
    router.send(*ids(4))
    router.deliver(processor)
    wide = {
        "models": (*MODELS, "new"),
        "active": np.ones(4, dtype=bool),
        "budgets": np.full(4, PICO),
        "prices": np.append(PRICED, 300.0),
        "granted": np.zeros((3, 4), np.int64),
        "target": np.zeros((3, 4), np.int64),
        "revision": 6,
    }
    router.plans.latest = plan_with(**wide)
    router.send(*ids(4, 4))
    router.deliver(processor)
    rich = np.full((3, 3), PICO, dtype=np.int64)
    router.plans.latest = plan_with(granted=rich, target=rich, revision=7)
    deferred = len(router.topics.of(router.names.overflow))
    assert router.deliver(pool, deferred - 1) == deferred - 1
    router.plans.latest = plan_with(
        **{**wide, "granted": np.full((3, 4), PICO), "target": np.full((3, 4), PICO), "revision": 8}
    )
    router.deliver(pool)
    assert set(router.places()) == set(ids(8))
    assert "new" not in {query["routing"]["model"] for query in router.routed()}
    router.assert_ledgers_match_topics(POOL)


def test_refresh_plan_older_than_ledger_is_ignored(router):
    processor = router.open_lane()
    router.send(*ids(3))
    router.deliver(processor)
    router.plans.latest = plan_with(revision=4, version=0, learned=False)
    successor = router.open_lane()
    assert successor.max_records == 0
    assert not successor.has_pending_work
    assert successor.next_offset == 3
    router.plans.latest = plan_with()
    successor.refresh_plan()
    assert successor.max_records > 0


def test_open_ledger_read_short_of_the_last_commit_is_rejected(router):
    processor = router.open_lane()
    router.send(*ids(6))
    router.deliver(processor, 3)
    committed = router.topics.of(router.names.ledger, 0)
    first = list(committed)
    router.deliver(processor, 3)
    hidden = committed[len(first) :]
    processor.close()
    del committed[len(first) :]
    with pytest.raises(KafkaException, match="read up to next=3, and this worker has committed next=6"):
        processor.open()
    committed.extend(hidden)
    processor.open()
    assert processor.next_offset == 6


def test_route_in_lockstep_stops_at_next_solve():
    router = MemoryRouter(partitions=1, lockstep=True)
    router.plans.latest = plan_with(until=5, overflow=False)
    processor = router.open_lane()
    router.send(*ids(4))
    router.topics.add(router.names.queries, b"no query")
    router.send(*ids(4, 4))
    while router.deliver(processor):
        pass
    assert router.ledger(0).account.arrived == 5
    router.plans.latest = plan_with(until=None, overflow=False, revision=6)
    router.deliver(processor)
    assert router.ledger(0).account.arrived == 8


def test_process_with_grants_above_target_releases_them_once(router):
    processor = router.open_lane()
    half = router.plans.latest.target // 2
    router.plans.latest = plan_with(target=half, revision=6)
    processor.refresh_plan()
    assert processor.has_pending_work
    router.step(processor)
    assert router.ledger(0).account.released.tolist() == half[0].tolist()
    assert not processor.has_pending_work


def test_route_query_with_overflow_header_of_client_keeps_it(router):
    granted = np.array([[0, 0, 0], [0, 0, 0], [PICO, PICO, PICO]], dtype=np.int64)
    router.plans.latest = plan_with(granted=granted, target=granted)
    processor, pool = router.open_lane(0), router.open_lane(POOL)
    router.send("q0", headers=[(OVERFLOW_HEADER, b"mine"), ("x", b"y")])
    router.deliver(processor)
    router.deliver(pool)
    assert router.places()["q0"] != ["dlq"]
    (query,) = [m for m in router.topics.kept.values() for m in m if m.value() and b'"routing"' in m.value()]
    assert query.headers() == [(OVERFLOW_HEADER, b"mine"), ("x", b"y")]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"{",
        b"[]",
        b'{"partition": 0, "offset": 1}',
        b'{"partition": 0, "offset": 1, "quality": "A", "cost": "", "charge": ""}',
    ],
)
def test_route_overflow_record_without_valid_header_produces_dead_letter(router, content):
    pool = router.open_lane(POOL)
    headers = [] if content is None else [(OVERFLOW_HEADER, content)]
    router.topics.add(router.names.overflow, b'{"id": "x", "prompt": "y"}', 0, headers)
    router.deliver(pool)
    assert router.places() == {"x": ["dlq"]}
    assert router.ledger(POOL).next == 1


@pytest.mark.parametrize(
    ("change", "reason", "exhausted"),
    [
        ({"granted": np.zeros((3, 3), dtype=np.int64)}, "budget_exhausted", True),
        ({"prices": np.full(3, 1e9)}, "not_worth_it", False),
    ],
)
def test_route_unserved_query_says_why(router, change: dict, reason: str, exhausted: bool):
    router.plans.latest = plan_with(**change, overflow=False)
    router.send(*ids(3))
    router.deliver(router.open_lane(0))

    unserved = [orjson.loads(message.value()) for message in router.topics.of(router.names.unserved)]

    assert [query["reason"] for query in unserved] == [reason] * 3
    for query in unserved:
        assert set(query["routing"].get("exhausted", ())) <= set(MODELS)
        assert bool(query["routing"].get("exhausted")) == exhausted


def test_route_logs_each_decision_once_with_the_scores_of_all_llms():
    router = MemoryRouter(decision_log=True, exploration=0.5, exploration_budget=1.0)
    processor = router.open_lane()
    router.send(*ids(40))
    router.topics.add(router.names.queries, b'{"id": "bad"}')
    while router.deliver(processor, 7):
        pass
    routed = {query["id"]: query["routing"] for query in router.routed()}
    logged = [orjson.loads(message.value()) for message in router.topics.of(router.names.decisions)]
    decided = [name for name, (place, *_) in router.places().items() if place != "dlq"]
    # deferred queries are logged by the overflow lane
    assert sorted(record["id"] for record in logged) == sorted(decided)
    for record in logged:
        assert message_matches_schema(record)
        scores = [-1.0 if score is None else score for score in record["score"]]
        best = record["models"][int(np.argmax(scores))]
        explores = record["model"] not in (None, best)
        assert record["probability"] < 0.5 if explores else record["probability"] >= 0.5
        if record["model"] is not None:
            routing = routed[record["id"]]
            assert (record["partition"], record["offset"]) == (routing["partition"], routing["offset"])
            assert record["probability"] == pytest.approx(routing["probability"])
            assert record["quality"][record["models"].index(record["model"])] == routing["quality"]
    assert any(record["probability"] < 0.5 for record in logged)
    assert not MemoryRouter().topics.of(router.names.decisions)


def message_matches_schema(record: dict) -> bool:
    return Draft202012Validator(message_schema("decision")).is_valid(record)
