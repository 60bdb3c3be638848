"""Corruptions of a recorded history, each with the kind of violation that the audit must report."""

from collections.abc import Callable
from dataclasses import replace

import orjson

from streams.audit.topic_records import TopicRecord
from streams.ledger.account_format import lane_key, period_of
from streams.messages.deferred import OVERFLOW_HEADER
from tests.end_to_end.recorded_topics import Recorded, rewritten, routing_of

Corruption = Callable[[Recorded], Recorded]


def ledger_edit(name: str, by: int) -> Callable[[dict], None]:
    """Return an edit that adds to one LLM's amount in a ledger's account."""

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
    """Remove a deferred query from the overflow topic; no later decision about it exists."""
    return h.without(h.entries[h.topics.overflow][-1])


def doubled(h: Recorded) -> Recorded:
    return h.with_more(h.routed()[0])


def doubled_elsewhere(h: Recorded) -> Recorded:
    entry = h.routed()[0]
    return h.with_more(entry, h.other_llm(entry))


def doubled_with_its_charge(h: Recorded) -> Recorded:
    """Write the reservations of a transaction twice, as if a second one had decided the same queries."""
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
    """Move a query and change the LLM in its message, so that only the reservation contradicts it."""
    entry = h.routed()[0]
    other = h.other_llm(entry)
    model = next(routing_of(e)["model"] for e in h.routed() if e.topic == other)
    changed = replace(entry, value=rewritten(entry, model=model))
    return h.without(entry).with_more(changed, other)


def swapped(h: Recorded) -> Recorded:
    """Exchange the offsets of two queries of one LLM."""
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
    entry = next(e for e in h.routed(deferred=True) if any(name == OVERFLOW_HEADER for name, _ in e.headers))
    return h.changed(entry, headers=[header for header in entry.headers if header[0] != OVERFLOW_HEADER])


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
    """Lower the budgets of all plans below the charges."""

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
    """Route a query by a price that its plan does not have."""
    entry = h.routed()[0]
    return h.changed(entry, value=rewritten(entry, price=routing_of(entry)["price"] * 1.001 + 1e-3))


def older_plan_again(h: Recorded) -> Recorded:
    return h.with_more(h.entries[h.topics.plan_log][0])


def sampled_twice(h: Recorded) -> Recorded:
    sample = next(e for e in h.entries[h.topics.samples] if orjson.loads(e.value or b"")["shape"][0])
    return h.with_more(sample)


def older_ledger_again(h: Recorded) -> Recorded:
    """Repeat an older ledger record, as if a fenced worker had written it."""
    ledger: list[TopicRecord] = [
        e for e in h.entries[h.topics.ledger] if e.partition == 0 and e.key == lane_key(0)
    ]
    return h.with_more(ledger[len(ledger) // 2])


def past_accounts(h: Recorded, period: int = 1) -> list[TopicRecord]:
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


CORRUPTIONS: list[tuple[Corruption, str]] = [
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
]
