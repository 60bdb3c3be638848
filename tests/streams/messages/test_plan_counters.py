"""Plans with counters on the compacted topic: only counters that changed are written."""

from dataclasses import replace

import numpy as np

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.policy.plan import Plan
from streams.messages.plan import PLAN_KEY, PlanAssembler, decode_plan, encode_plan, plan_messages

MODELS = ("a", "b")
TEAM = Budget("team", group_by="metadata.team", limits={"ads": 1.0}, default=0.5)
COUNTERS = Counters.of((Budget("total", limit=5.0), TEAM), MODELS)


def plan_with(**fields) -> Plan:
    size = len(fields.get("counters", COUNTERS))
    plain = {
        "period": 1,
        "version": 1,
        "revision": 1,
        "models": MODELS,
        "active": np.ones(2, dtype=bool),
        "budgets": np.arange(size, dtype=np.int64) * 10,
        "prices": np.linspace(0, 1, size),
        "learned": True,
        "granted": np.arange(3 * size, dtype=np.int64).reshape(3, size),
        "target": np.zeros((3, size), dtype=np.int64),
        "overflow": True,
        "horizon": 10,
        "counters": COUNTERS,
        "open": np.ones(size, dtype=bool),
    }
    return Plan(**(plain | fields))


def assert_equal(read: Plan | None, written: Plan) -> None:
    assert read is not None
    assert read.counters == written.counters
    for name in ("budgets", "prices", "open", "granted", "target", "active"):
        assert np.array_equal(getattr(read, name), getattr(written, name)), name
    assert (read.revision, read.models) == (written.revision, written.models)


def test_plan_with_counters_round_trips_as_one_value():
    assert_equal(decode_plan(encode_plan(plan_with())), plan_with())


def test_plan_messages_assemble_to_the_plan():
    assembler, plan = PlanAssembler(), plan_with()

    read = [assembler.append(key, value) for key, value in plan_messages(plan, None)]

    assert read[:-1] == [None] * 3, "the plan's own message is the last"
    assert_equal(read[-1], plan)


def test_plan_messages_have_only_counters_that_changed():
    assembler, first = PlanAssembler(), plan_with()
    for key, value in plan_messages(first, None):
        assembler.append(key, value)
    granted = first.granted.copy()
    granted[1, 2] += 5
    later = replace(first, granted=granted, revision=2)

    messages = list(plan_messages(later, first))

    assert [key for key, _ in messages] == [b"plan/2", PLAN_KEY]
    assert_equal([assembler.append(key, value) for key, value in messages][-1], later)


def test_plan_messages_of_a_new_value_and_of_a_new_period():
    assembler, first = PlanAssembler(), plan_with()
    for key, value in plan_messages(first, None):
        assembler.append(key, value)
    wider = COUNTERS.with_keys([("team", "new")])
    more = plan_with(counters=wider, revision=2)
    messages = list(plan_messages(more, replace(first, granted=more.granted[:, :4])))
    assert b"plan/4" in [key for key, _ in messages]
    read = [assembler.append(key, value) for key, value in plan_messages(more, first)][-1]
    assert_equal(read, more)

    messages = list(plan_messages(replace(first, revision=3, period=2), more))

    assert (b"plan/4", None) in messages
    read = [assembler.append(key, value) for key, value in messages][-1]
    assert_equal(read, replace(first, revision=3, period=2))


def test_plan_head_does_not_grow_with_the_number_of_counters():
    many = COUNTERS.with_keys([("team", f"team-{number}") for number in range(500)])

    few, much = (
        dict(plan_messages(plan, None))[PLAN_KEY] for plan in (plan_with(), plan_with(counters=many))
    )

    assert few is not None
    assert much is not None
    assert abs(len(few) - len(much)) < 20


def test_assembler_skips_a_plan_whose_counters_compaction_has_removed():
    messages = dict(plan_messages(plan_with(), None))

    assert PlanAssembler().append(PLAN_KEY, messages[PLAN_KEY]) is None
