"""The checker finds what is broken: real histories, each with one thing changed.

Needs Apache Kafka (the fixture `kafka`) for the history, once; each test then changes it in memory.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from streams.checks.logs import Entry
from streams.ledger import lane_key, period_of
from streams.overflow import HEADER
from tests.end_to_end.data import make_small
from tests.end_to_end.recorded import Recorded, rewritten, routing_of
from tests.end_to_end.routers import Router
from tests.end_to_end.workers import ROOT, wait_for


@pytest.fixture(scope="module")
def stream(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """Two partitions and the overflow lane, three periods, settlement of every kind, dead letters.

    Of the first period all is settled, some of it in the third; of the others nothing.

    Budgets are such that cheap LLMs have rights in both partitions and dear ones only in the pool; before
    anything has arrived the pool has them all.
    """
    folder = tmp_path_factory.mktemp("checker")
    data = make_small(folder / "data", "open_llm_v2", 1000, 1500, factor=15.0, models=6)
    router = Router(
        bootstrap_servers, data, folder, f"check-{os.urandom(4).hex()}",
        partitions=2, horizon=5000, eps=0.01, period_seconds=12, resolve="geometric",
    )  # fmt: skip
    worker = router.start()
    try:
        own_headers(router, range(500, 510))
        router.send(range(60))
        for first in range(60, 100, 8):  # the planner looks a few times before it knows the pace
            router.all_landed()
            router.send(range(first, first + 8))
        wait_for(lambda: (plan := router.plan()) and plan.granted[0].any(), 30, "lanes have rights")
        router.send(range(100, 400))
        own_headers(router, range(510, 520))
        router.send_raw("bad", b"not JSON", key=b"k", headers=[("h", b"\xff")], partition=1)
        router.all_landed()
        served = router.served()
        for number, landing in enumerate(served[:200]):
            router.answer(landing, float(landing.charge) / 1e12 * (0.5 if number % 2 else 1.2))
        router.answer(served[0], float(served[0].charge) / 1e12 * 1.2)  # a duplicate
        router.answer(served[1], 1.0)  # it cost another sum before
        router.answer(served[2], id="somebody-else")
        router.answer(served[3], offset=10**9)
        router.settled(204)
        router.ledgers_are(lambda lanes: all(r.account.period > 1 for r in lanes.values()), "all in period 2")
        router.send(range(400, 450))
        router.all_landed()
        router.ledgers_are(lambda lanes: all(r.account.period > 2 for r in lanes.values()), "all in period 3")
        for landing in served[200:]:
            router.answer(landing, float(landing.charge) / 1e12 * 1.1)
        router.settled(4 + len(served))
        router.send(range(450, 500))
        router.all_landed()
        router.check_at_rest()
        assert worker.stop() == 0
        yield router
    finally:
        router.close()
        router.delete_topics()


def own_headers(router: Router, rows: range) -> None:
    """Queries of a client that has a header of the router's name, which is its own business."""
    for row in rows:
        identity, value = router.query(row)
        headers = [(HEADER, b"mine"), ("x", b"y"), (HEADER, b'{"partition": 0, "offset": 1}')]
        router.send_raw(identity, value, headers=headers, partition=row % 2)


@pytest.fixture(scope="module")
def history(stream: Router) -> Recorded:
    with stream.logs() as logs:
        return Recorded.of(logs, stream.topics)


def test_nothing_is_wrong_with_the_history_itself(history: Recorded) -> None:
    verdict = history.check()
    assert verdict.fine, verdict.text()
    assert verdict.queries == 521
    assert verdict.dead == 1
    assert verdict.deferred > 0
    assert verdict.overdrawn_pico > 0
    assert verdict.served + verdict.unserved + verdict.dead == 521
    assert len(history.routed()) > 50
    deferred = history.entries[history.topics.overflow]
    own = {sum(name == HEADER for name, _ in entry.headers) for entry in deferred}
    assert own == {1, 3}, "a client's headers of our name go along"
    newest = {
        entry.key: orjson.loads(entry.value or b"") for entry in history.entries[history.topics.periods]
    }
    states = [(newest[key]["closed"], newest[key]["settling"]) for key in (b"1", b"2", b"3")]
    assert states == [(True, False), (True, True), (False, True)]


def test_a_bill_that_is_behind_is_wrong_only_when_nothing_is_to_come(history: Recorded) -> None:
    """A planner that is about to write it has done nothing wrong."""
    last = [bills_of(history, 3)[-1], *bills_of(history, 1)[-1:]]
    behind = history.without(last[0]).without(last[1])
    assert behind.check().counts["bill"]
    from streams.checker import check

    assert check(behind, history.topics).fine


def ledger_edit(name: str, by: int) -> Callable[[dict], None]:
    """Adds to one LLM's amount in a ledger's account."""

    def edit(fields: dict) -> None:
        account = fields["account"]
        account[name][account["served"].index(max(account["served"]))] += by

    return edit


def lost(h: Recorded) -> Recorded:
    return h.without(h.routed()[0])


def lost_in_overflow(h: Recorded) -> Recorded:
    return h.without(h.routed(deferred=True)[0])


def lost_unserved(h: Recorded) -> Recorded:
    return h.without(h.entries[h.topics.unserved][0])


def lost_dead_letter(h: Recorded) -> Recorded:
    return h.without(h.entries[h.topics.dlq][0])


def never_deferred(h: Recorded) -> Recorded:
    """Neither on the overflow topic nor what became of it there."""
    return h.without(h.entries[h.topics.overflow][-1])


def doubled(h: Recorded) -> Recorded:
    return h.with_more(h.routed()[0])


def doubled_elsewhere(h: Recorded) -> Recorded:
    entry = h.routed()[0]
    return h.with_more(entry, h.other_llm(entry))


def doubled_with_its_charge(h: Recorded) -> Recorded:
    """A second transaction decided the same queries: outputs, reservations and ledger all say so."""
    batch = next(e for e in h.entries[h.topics.reservations] if e.partition == 0)
    return h.with_more(batch)


def charged_twice(h: Recorded) -> Recorded:
    return h.edited(h.topics.ledger, ledger_edit("charged", 1), last=True)


def reserved_twice(h: Recorded) -> Recorded:
    return h.edited(h.topics.overflow_ledger, ledger_edit("reserved", 1), last=True)


def settled_twice(h: Recorded) -> Recorded:
    return h.edited(
        h.topics.ledger,
        lambda f: f["outcomes"].update(settled=f["outcomes"].get("settled", 0) + 1),
        last=True,
    )


def cheaper_than_it_says(h: Recorded) -> Recorded:
    entry = h.routed()[0]
    return h.changed(entry, value=rewritten(entry, cost=routing_of(entry)["cost"] / 2))


def moved(h: Recorded) -> Recorded:
    entry = h.routed()[0]
    return h.moved(entry, h.other_llm(entry))


def moved_and_relabelled(h: Recorded) -> Recorded:
    """The topic and what the message says agree; only the reservation knows better."""
    entry = h.routed()[0]
    other = h.other_llm(entry)
    model = next(routing_of(e)["model"] for e in h.routed() if e.topic == other)
    changed = replace(entry, value=rewritten(entry, model=model))
    return h.without(entry).with_more(changed, other)


def swapped(h: Recorded) -> Recorded:
    """Two queries under each other's offsets."""
    topic = h.routed()[0].topic
    one, other = [e for e in h.routed() if e.topic == topic][:2]
    places = [
        {"partition": routing_of(e)["partition"], "offset": routing_of(e)["offset"]} for e in (one, other)
    ]
    return h.changed(one, value=rewritten(one, **places[1])).changed(
        other, value=rewritten(other, **places[0])
    )


def moved_to_another_source(h: Recorded) -> Recorded:
    entry = h.routed(deferred=True)[0]
    lane, offset = routing_of(entry)["source"]
    return h.changed(entry, value=rewritten(entry, source=[1 - lane, offset]))


def altered(h: Recorded) -> Recorded:
    entry = h.routed()[0]
    return h.changed(entry, value=(entry.value or b"").replace(b'"prompt":"', b'"prompt":"!', 1))


def without_headers(h: Recorded) -> Recorded:
    entry = h.routed()[0]
    return h.changed(entry, headers=[("x", b"y")])


def without_the_clients_header(h: Recorded) -> Recorded:
    entry = next(e for e in h.routed(deferred=True) if any(name == HEADER for name, _ in e.headers))
    return h.changed(entry, headers=[header for header in entry.headers if header[0] != HEADER])


def altered_dead_letter(h: Recorded) -> Recorded:
    entry = h.entries[h.topics.dlq][0]
    return h.changed(entry, value=b"not  JSON")


def foreign(h: Recorded) -> Recorded:
    entry = h.routed()[0]
    return h.with_more(replace(entry, value=rewritten(entry, offset=10**6)))


def not_the_routers(h: Recorded) -> Recorded:
    return h.with_more(replace(h.routed()[0], value=b"{}"))


def goes_on_too_far(h: Recorded) -> Recorded:
    return h.edited(h.topics.ledger, lambda f: f.update(next=f["next"] + 1), last=True)


def goes_on_too_early(h: Recorded) -> Recorded:
    return h.edited(h.topics.ledger, lambda f: f.update(next=f["next"] - 1), last=True)


def overspent(h: Recorded) -> Recorded:
    """All is consistent, but the budgets were less than it."""

    def less(fields: dict) -> None:
        fields["budgets"] = [budget // 10_000 for budget in fields["budgets"]]

    return h.edited(h.topics.plans, less).edited(h.topics.plan_log, less)


def beyond_its_rights(h: Recorded) -> Recorded:
    def less(fields: dict) -> None:
        fields["granted"] = [[granted // 10_000 for granted in lane] for lane in fields["granted"]]

    return h.edited(h.topics.plans, less)


def granted_twice(h: Recorded) -> Recorded:
    def double(fields: dict) -> None:
        fields["granted"] = [[2 * granted for granted in lane] for lane in fields["granted"]]

    return h.edited(h.topics.plans, double)


def outcome_lost(h: Recorded) -> Recorded:
    return h.without(h.entries[h.topics.outcomes][5])


def refused_outcome_lost(h: Recorded) -> Recorded:
    return h.without(h.entries[h.topics.outcomes_dlq][0])


def other_prices(h: Recorded) -> Recorded:
    """One plan was solved twice."""
    entry = h.routed()[0]
    return h.changed(entry, value=rewritten(entry, price=routing_of(entry)["price"] * 1.001 + 1e-3))


def older_plan_again(h: Recorded) -> Recorded:
    return h.with_more(h.entries[h.topics.plan_log][0])


def sampled_twice(h: Recorded) -> Recorded:
    sample = next(e for e in h.entries[h.topics.samples] if orjson.loads(e.value or b"")["shape"][0])
    return h.with_more(sample)


def older_ledger_again(h: Recorded) -> Recorded:
    """A worker that was fenced wrote all the same."""
    ledger: list[Entry] = [e for e in h.entries[h.topics.ledger] if e.partition == 0 and e.key == lane_key(0)]
    return h.with_more(ledger[len(ledger) // 2])


def past_accounts(h: Recorded, period: int = 1) -> list[Entry]:
    return [e for e in h.entries[h.topics.ledger] if period_of(e.key) == period and e.value is not None]


def past_account_lost(h: Recorded) -> Recorded:
    for entry in past_accounts(h, 2):
        h = h.without(entry)
    return h


def past_account_charged_twice(h: Recorded) -> Recorded:
    entry = past_accounts(h)[-1]
    fields = orjson.loads(entry.value or b"")
    ledger_edit("settled", 1)(fields)
    return h.changed(entry, value=orjson.dumps(fields))


def past_account_without_its_record(h: Recorded) -> Recorded:
    return h.with_more(past_accounts(h)[-1])


# --- bills --------------------------------------------------------------------------------------------------


def bill_edit(name: str, by: int, period: int = 1) -> Callable[[Recorded], Recorded]:
    """Adds to a number of a period's bill, or to that of the LLM that was served most."""

    def edit(fields: dict) -> None:
        if fields["period"] != period:
            return
        if isinstance(fields[name], list):
            fields[name][fields["served"].index(max(fields["served"]))] += by
        else:
            fields[name] += by

    def change(h: Recorded) -> Recorded:
        return h.edited(h.topics.periods, edit)

    change.__name__ = f"bill_{period}_{name}_{by:+d}"
    return change


def bills_of(h: Recorded, period: int) -> list[Entry]:
    return [e for e in h.entries[h.topics.periods] if e.key == str(period).encode()]


def never_closed(h: Recorded) -> Recorded:
    """Forgotten by a planner that looked at two periods only."""
    return h.edited(
        h.topics.periods, lambda f: f.update(closed=False, settling=True) if f["period"] == 1 else None
    )


def never_closed_the_last(h: Recorded) -> Recorded:
    """All lanes are past it, and nothing is to come."""
    return h.edited(
        h.topics.periods, lambda f: f.update(closed=False, settling=True) if f["period"] <= 2 else None
    )


def closed_too_early(h: Recorded) -> Recorded:
    return h.edited(h.topics.periods, lambda f: f.update(closed=True))


def called_final(h: Recorded) -> Recorded:
    """Reservations of the second period are open."""
    return h.edited(h.topics.periods, lambda f: f.update(settling=not f["closed"]))


def forgotten_too_early(h: Recorded) -> Recorded:
    return h.edited(h.topics.plans, lambda f: f.update(billed=2))


def late_outcomes_not_billed(h: Recorded) -> Recorded:
    """The closed bill is of before the outcomes that came in the third period."""
    before = None
    for entry in bills_of(h, 1):
        bill = orjson.loads(entry.value or b"")
        if bill["settling"]:
            before = entry
    assert before is not None
    for entry in bills_of(h, 1)[bills_of(h, 1).index(before) + 1 :]:
        h = h.without(entry)
    return h


def bill_lost(h: Recorded) -> Recorded:
    for entry in bills_of(h, 2):
        h = h.without(entry)
    return h


def bill_of_an_earlier_planner(h: Recorded) -> Recorded:
    """A planner that was fenced wrote all the same."""
    early = next(e for e in bills_of(h, 1) if not orjson.loads(e.value or b"")["closed"])
    return h.with_more(early)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lost, "missing"),
        (lost_in_overflow, "missing"),
        (lost_unserved, "missing"),
        (lost_dead_letter, "missing"),
        (never_deferred, "missing"),
        (doubled, "twice"),
        (doubled_elsewhere, "twice"),
        (doubled_with_its_charge, "twice"),
        (charged_twice, "ledger_differs"),
        (reserved_twice, "ledger_differs"),
        (settled_twice, "settlement"),
        (cheaper_than_it_says, "ledger_differs"),
        (moved, "moved"),
        (moved_and_relabelled, "moved"),
        (swapped, "moved"),
        (moved_to_another_source, "moved"),
        (altered, "altered"),
        (without_headers, "altered"),
        (without_the_clients_header, "altered"),
        (altered_dead_letter, "altered"),
        (foreign, "foreign"),
        (not_the_routers, "foreign"),
        (goes_on_too_far, "position"),
        (goes_on_too_early, "position"),
        (overspent, "overspent"),
        (beyond_its_rights, "rights"),
        (granted_twice, "rights"),
        (outcome_lost, "settlement"),
        (refused_outcome_lost, "settlement"),
        (other_prices, "plans"),
        (older_plan_again, "plans"),
        (sampled_twice, "samples"),
        (older_ledger_again, "ledger_differs"),
        (past_account_lost, "ledger_differs"),
        (past_account_charged_twice, "ledger_differs"),
        (past_account_without_its_record, "ledger_differs"),
        *[
            (bill_edit(name, by), "bill")
            for name in (
                "reserved",
                "served",
                "settled",
                "settlements",
                "charged",
                "lapsed",
                "unserved",
                "deferred",
                "arrived",
                "dead",
                "budgets",
            )
            for by in (-1, 1)
        ],
        (bill_edit("settled", 1, period=2), "bill"),
        (bill_edit("reserved", -1, period=2), "bill"),
        (bill_edit("budgets", 1, period=2), "bill"),
        (bill_edit("served", 1, period=3), "bill"),
        (bill_edit("served", -1, period=3), "bill"),
        (never_closed, "bill"),
        (never_closed_the_last, "bill"),
        (closed_too_early, "bill"),
        (called_final, "bill"),
        (forgotten_too_early, "bill"),
        (late_outcomes_not_billed, "bill"),
        (bill_lost, "bill"),
        (bill_of_an_earlier_planner, "bill"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_what_is_broken_is_found(
    history: Recorded, change: Callable[[Recorded], Recorded], kind: str
) -> None:
    verdict = change(history).check()
    assert not verdict.fine
    assert verdict.counts[kind], verdict.text()
    assert f"BROKEN {kind}" in verdict.text()


def test_what_waits_is_missing_only_when_all_should_be_there(history: Recorded) -> None:
    query = history.entries[history.topics.queries][-1]
    waiting = history.with_more(query)
    assert waiting.check().counts["missing"] == 1
    from streams.checker import check

    verdict = check(waiting, history.topics)
    assert verdict.fine, verdict.text()
    assert verdict.waiting == 1


def test_the_command_says_so_by_its_exit_status(stream: Router, history: Recorded, tmp_path: Path) -> None:
    """On the broker: the history as it is, then with a query doubled by somebody else's producer."""

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "streams", "check", "--complete", *arguments],
            cwd=ROOT, env={**os.environ, **stream.variables}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    fine = command()
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "every invariant holds" in fine.stdout
    entry = history.routed()[0]
    stream.producer.produce(
        entry.topic, entry.value, entry.key, partition=entry.partition, headers=list(entry.headers)
    )
    stream.producer.flush(30)
    broken = command("--json")
    assert broken.returncode == 1
    report = orjson.loads(broken.stdout)
    assert (report["fine"], report["twice"], report["missing"]) == (False, 1, 0)
