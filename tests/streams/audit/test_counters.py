"""Audit of shared and grouped budgets: a wrong charge, grant or bill of one counter is found."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from routing.budgets.budget import Budget
from streams.ledger.account_format import counter_of
from streams.ledger.reservations import ReservationBatch, decode_reservations, encode_reservations
from tests.end_to_end.recorded_topics import Recorded
from tests.streams.memory_stream import MemoryStream
from tests.streams.router.memory_router import POOL

TOTAL = Budget("total", limit=1.0)
TEAM = Budget("team", group_by="metadata.team", limits={"ads": 0.5}, default=0.1)
FEW = Budget("few", unit="queries", limit=30)
TOKENS = Budget("tokens", unit="tokens", limit=100_000)
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def history() -> Recorded:
    """Two periods of two teams on two lanes: the first is settled, the second is open."""
    stream = MemoryStream(TOTAL, TEAM, FEW, TOKENS, horizon=40)
    for number in range(12):
        stream.send(3, 0, metadata={"team": "ads"})
        stream.send(2, 1, metadata={"team": "new"})
        stream.round(1.0)
        if stream.plan.period == 1 or number == 10:
            stream.settle(0.5 if number % 2 else 1.5, tokens=900 if number % 2 else None)
        if number == 8:
            stream.settle(1.0, tokens=50)
    for _ in range(8):
        stream.round(1.0)
    assert stream.plan.period == 2
    assert stream.charged("team", "ads") > 0
    return stream.recorded()


def edited(history: Recorded, topic: str, key: Callable[[bytes], bool], edit: Edit) -> Recorded:
    """Return a copy with the last record of a key of each partition edited."""
    other = history.copy()
    newest = {
        (entry.partition, entry.key): at
        for at, entry in enumerate(other.entries[topic])
        if entry.value is not None and key(entry.key or b"")
    }
    assert newest
    for at in newest.values():
        fields = orjson.loads(other.entries[topic][at].value or b"")
        edit(fields)
        other.entries[topic][at] = replace(other.entries[topic][at], value=orjson.dumps(fields))
    return other


def in_ledger(edit: Edit) -> Callable[[Recorded], Recorded]:
    """Return a change of the last record of team ads in each period of the overflow lane's ledger."""
    return lambda h: edited(h, h.topics.overflow_ledger, lambda key: counter_of(key) == ("team", "ads"), edit)


def in_lane_record(edit: Edit) -> Callable[[Recorded], Recorded]:
    return lambda h: edited(h, h.topics.overflow_ledger, lambda key: key == b"%d" % POOL, edit)


def in_bill(edit: Edit, counter: str, period: bytes = b"1") -> Callable[[Recorded], Recorded]:
    """Return a change of one counter in the last bill of a period."""

    def change(bill: dict[str, Any]) -> None:
        edit(bill if "value" in bill else next(one for one in bill["counters"] if one["budget"] == counter))

    key_of_bill = period + b"/team=ads" if counter == "ads" else period
    return lambda h: edited(h, h.topics.periods, lambda key: key == key_of_bill, change)


def add(name: str, by: int) -> Edit:
    return lambda fields: fields.update({name: fields[name] + by})


def add_use(by: int, kind: int, uses: str = "use") -> Edit:
    """Return an edit of the queries, reserved or settled picodollars of a counter on one LLM."""

    def edit(fields: dict[str, Any]) -> None:
        model = max(fields[uses], key=lambda one: fields[uses][one][0])
        fields[uses][model][kind] += by

    return edit


def charge_total(fields: dict[str, Any]) -> None:
    row = next(one for one in fields["account"]["counters"] if one[0] == "total")
    row[3] += 1


def forget_counter(h: Recorded) -> Recorded:
    """Remove a team from the closed bill."""
    other = h.copy()
    other.entries[h.topics.periods] = [e for e in h.entries[h.topics.periods] if e.key != b"1/team=ads"]
    return other


def last_reservation(h: Recorded, change: Callable[[ReservationBatch], None]) -> Recorded:
    """Return a copy with the last transaction of the overflow lane changed."""
    entry = [one for one in h.entries[h.topics.reservations] if one.partition == POOL][-1]
    batch = decode_reservations(entry.value or b"")
    change(batch)
    return h.changed(entry, value=encode_reservations(batch))


def draw_twice(h: Recorded) -> Recorded:
    """Let the queries draw on the counter of their team where they drew on a budget of queries."""

    def change(batch: ReservationBatch) -> None:
        assert batch.counters is not None
        few, ads = batch.counters.index(("few", None)), batch.counters.index(("team", "ads"))
        batch.columns[batch.columns == few] = ads

    return last_reservation(h, change)


def had_less(h: Recorded) -> Recorded:
    """Let the lane have had a picodollar of the team before a transaction that charged more."""

    def change(batch: ReservationBatch) -> None:
        assert batch.counters is not None
        batch.available[batch.counters.index(("team", "ads"))] = 1

    return last_reservation(h, change)


def granted_less(h: Recorded) -> Recorded:
    """Lower the grant of a team in the plan in force to less than its lane charged."""

    def edit(fields: dict[str, Any]) -> None:
        if fields["key"] == ["team", "ads"]:
            fields["granted"] = [[POOL, 1]]

    return edited(h, h.topics.plans, lambda key: key.startswith(b"plan/"), edit)


def limited_less(h: Recorded) -> Recorded:
    """Lower the limit of a team in every plan."""

    def edit(plan: dict[str, Any]) -> None:
        if plan.get("key") == ["team", "ads"]:
            plan["budgets"] = 1
        elif "key" not in plan and len(plan["budgets"]) > 3:
            plan["budgets"][3] = 1  # the plan log has all counters in one message

    return h.edited(h.topics.plans, edit).edited(h.topics.plan_log, edit)


@pytest.mark.parametrize(
    ("corrupt", "kind", "text"),
    [
        pytest.param(in_ledger(add("charged", 1)), "ledger_differs", "team=ads: charged", id="charged"),
        pytest.param(in_ledger(add_use(1, 0)), "ledger_differs", "team=ads, large: served", id="use"),
        pytest.param(in_ledger(add_use(1, 2)), "ledger_differs", "team=ads, large: settled", id="settled"),
        pytest.param(in_lane_record(charge_total), "ledger_differs", "budget total: charged", id="total"),
        pytest.param(draw_twice, "rights", "drew on one budget twice", id="drawn-twice"),
        pytest.param(draw_twice, "ledger_differs", "team=ads: charged", id="drawn-twice-by-the-sums"),
        pytest.param(had_less, "rights", "('team', 'ads'), but had 1", id="grant-in-a-transaction"),
        pytest.param(granted_less, "rights", "team=ads: granted 1", id="grant-of-the-plan"),
        pytest.param(limited_less, "overspent", "budget team=ads", id="limit"),
        pytest.param(in_bill(add("charged", 1), "ads"), "bill", "team=ads: charged", id="bill-value"),
        pytest.param(in_bill(add("charged", -1), "total"), "bill", "total: charged", id="bill-total"),
        pytest.param(in_bill(add("charged", 1), "few"), "bill", "few: charged", id="bill-queries"),
        pytest.param(in_bill(add("charged", 1), "tokens"), "bill", "tokens: charged", id="bill-tokens"),
        pytest.param(in_bill(add("limit", 1), "ads"), "bill", "team=ads: its limit", id="bill-limit"),
        pytest.param(
            in_bill(add_use(1, 0, "by_llm"), "ads", b"2"), "bill", "team=ads, large: served", id="bill-use"
        ),
        pytest.param(forget_counter, "bill", "team=ads: charged is 0", id="bill-without-the-value"),
    ],
)
def test_wrong_counter_is_found(
    history: Recorded, corrupt: Callable[[Recorded], Recorded], kind: str, text: str
):
    findings = corrupt(history).check()
    assert any(text in example for example in findings.examples.get(kind, ())), findings.examples


def test_history_without_a_fault_has_no_finding(history: Recorded):
    findings = history.check()
    assert not findings.counts, findings.examples
    assert findings.served > 20
    assert findings.compared
    assert orjson.loads(history.entries[history.topics.periods][-1].value or b"")["period"] == 2


def test_counter_that_outcomes_overdrew_is_no_finding_while_nothing_draws_on_it(history: Recorded):
    def overdrawn(batch: ReservationBatch) -> None:
        assert batch.counters is not None
        few = batch.counters.index(("few", None))
        batch.available[few] = -1
        batch.columns[batch.columns == few] = -1

    assert not last_reservation(history, overdrawn).check().counts["rights"]


def forget(h: Recorded, period: int) -> Recorded:
    """Return a copy in which the overflow lane no longer has the account of a period."""
    forgotten = in_lane_record(lambda fields: fields.update(forgotten=period))(h)
    parts = (b"%d/%d" % (POOL, period), b"%d/%d/" % (POOL, period))
    forgotten.entries[h.topics.overflow_ledger] = [
        entry
        for entry in forgotten.entries[h.topics.overflow_ledger]
        if entry.key != parts[0] and not (entry.key or b"").startswith(parts[1])
    ]
    return forgotten


def test_bill_of_a_forgotten_period_is_compared_in_the_units_of_its_plan(history: Recorded):
    findings = forget(history, 1).check()
    assert not any("few" in text or "tokens" in text for text in findings.examples.get("overspent", ()))
    assert not any("few" in text or "tokens" in text for text in findings.examples.get("bill", ()))
    wrong = in_bill(add("charged", 1), "few")(forget(history, 1)).check()
    assert any("few: charged" in text for text in wrong.examples["bill"])
