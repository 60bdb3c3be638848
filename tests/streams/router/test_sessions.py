"""Sessions: a query stays with the LLM that has cached its context, unless another is worth the switch."""

from types import SimpleNamespace

import orjson
import pytest

from routing.budgets.model import Model
from routing.policy.pause import Pause
from streams.messages.query import decode_query
from streams.router.sessions import SessionMemory, session_of
from tests.streams.router.memory_router import MODELS, MemoryRouter, plan_with

LONG = "abcdefgh " * 400


def send(router: MemoryRouter, identity: str, **fields: object) -> None:
    value = orjson.dumps({"id": identity, "prompt": LONG, **fields})
    router.topics.add(router.names.queries, value, 0, [("session", b"h")] if identity == "header" else ())


def model_of(router: MemoryRouter, identity: str) -> str:
    (model,) = (q["routing"]["model"] for q in router.routed() if q["id"] == identity)
    return model


@pytest.mark.parametrize("stickiness", [True, False])
def test_session_stays_with_its_llm_while_the_switch_costs_more_than_it_gains(stickiness: bool):
    router = MemoryRouter(stickiness=stickiness)
    prices = {"input_price": 100.0, "output_price": 1.0, "cached_input_price": 1.0}
    router.catalogue.models = {name: Model(name, **prices) for name in MODELS}
    lane = router.open_lane()
    send(router, "plain")
    router.deliver(lane)
    best = model_of(router, "plain")
    router.plans.latest = plan_with(revision=6, paused={best: Pause("failed", 0.0)})
    send(router, "first", session="s")
    router.deliver(lane)
    second = model_of(router, "first")
    assert second != best
    router.plans.latest = plan_with(revision=7)
    for identity, session in (("same", "s"), ("other", "t")):
        send(router, identity, session=session)
    router.deliver(lane)
    assert model_of(router, "same") == (second if stickiness else best)
    assert model_of(router, "other") == best


def test_session_memory_is_bounded_and_reads_field_or_header():
    memory = SessionMemory(max_sessions=2)
    queries = [
        decode_query(orjson.dumps({"id": str(i), "prompt": "a", "session": str(i)}), None) for i in range(3)
    ]
    records = [SimpleNamespace(headers=())] * 3
    decided = SimpleNamespace(
        arrivals=SimpleNamespace(queries=queries, records=records),
        decisions=SimpleNamespace(choice=SimpleNamespace(tolist=lambda: [0, 1, 0])),
        plan=SimpleNamespace(models=("a", "b")),
    )
    memory.remember(decided)  # type: ignore[arg-type]
    assert len(memory) == 2
    named = decode_query(b'{"id": "a", "prompt": "b"}', None)
    assert session_of(named, SimpleNamespace(headers=[("session", b"h")])) == "h"  # type: ignore[arg-type]
    assert session_of(named, SimpleNamespace(headers=None)) is None  # type: ignore[arg-type]
