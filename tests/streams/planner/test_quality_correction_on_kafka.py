"""Reported quality on a broker: from outcomes through ledgers and the plan to the next decisions."""

from collections.abc import Callable
from pathlib import Path

import orjson
from confluent_kafka.admin import AdminClient

from streams.operations.answered_queries import answered_queries
from streams.operations.explain import explain
from tests.conftest import TopicReader
from tests.streams.stepped_router import SteppedRouter, until

BUDGETS = {"small": 1.0, "vendor/middle": 1.0, "large": 1.0}


def report(stepped: SteppedRouter, routed: list[dict], quality: float) -> None:
    """Send the outcomes of routed queries with this quality, and settle them."""
    for query in routed:
        routing = query["routing"]
        fields = {name: routing[name] for name in ("model", "partition", "offset")}
        body = orjson.dumps({"id": query["id"], **fields, "cost": 1e-6, "quality": quality})
        stepped.send_raw(stepped.topics.outcomes, body, routing["partition"])
    inbox = stepped.lane(0)._settlement.inbox  # type: ignore[attr-defined]
    until(lambda: len(inbox) >= len(routed))
    stepped.step(0)


def test_llm_whose_answers_are_reported_bad_loses_its_queries_also_after_a_restart(
    bootstrap_servers: str,
    admin: AdminClient,
    tmp_path: Path,
    unique: Callable[[str], str],
    read_topics: TopicReader,
) -> None:
    stepped = SteppedRouter(
        bootstrap_servers, admin, unique("learns"), tmp_path, BUDGETS, quality_correction=True, overflow="off"
    )
    try:
        stepped.plan()

        def routed_since(offset: int) -> list[dict]:
            topics = [stepped.topics.llm(slug) for slug in ("small", "vendor-middle", "large")]
            queries = [orjson.loads(message.value() or b"") for message in read_topics(topics)]
            return [query for query in queries if query["routing"]["offset"] >= offset]

        stepped.lane(0)
        stepped.another_planner()
        stepped.plan()
        stepped.send(0, *(f"q{i}" for i in range(60)))
        stepped.step(0)
        first = routed_since(0)
        assert len(first) == 60
        favourite = max(BUDGETS, key=lambda name: sum(q["routing"]["model"] == name for q in first))
        report(stepped, [query for query in first if query["routing"]["model"] == favourite], 0.0)
        stepped.plan()
        assert favourite in stepped.router.plans.latest.correction  # type: ignore[union-attr]
        stepped.another_planner()
        stepped.plan()
        start = stepped.lane(0).next_offset
        stepped.send(0, *(f"later{i}" for i in range(30)))
        stepped.step(0)
        later = routed_since(start)
        assert len(later) == 30
        shares = [
            sum(q["routing"]["model"] == favourite for q in some) / len(some) for some in (first, later)
        ]
        assert shares[1] < 0.5 * shares[0]
        rows = list(answered_queries(stepped.settings))
        assert {row["id"] for row in rows} == {q["id"] for q in first if q["routing"]["model"] == favourite}
        assert {(row["model"], row["quality"], row["cost"]) for row in rows} == {(favourite, 0.0, 1e-6)}
        decision = explain(stepped.settings, stepped.estimating, "later0")["decisions"][-1]
        assert decision["agrees"] is True
    finally:
        stepped.close()
