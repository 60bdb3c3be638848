"""Corruptions of the bills of a recorded history; the audit must report each as `bill`."""

import orjson

from streams.audit.topic_records import TopicRecord
from tests.end_to_end.corruptions import Corruption
from tests.end_to_end.recorded_topics import Recorded


def bill_edit(name: str, by: int, period: int = 1) -> Corruption:
    """Return a change of a period's bill: of a number, or of the amount of the LLM that served most."""

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


def bills_of(h: Recorded, period: int) -> list[TopicRecord]:
    return [e for e in h.entries[h.topics.periods] if e.key == str(period).encode()]


def never_closed(h: Recorded) -> Recorded:
    """Open the bill of the first period again, while the second stays closed."""
    return h.edited(
        h.topics.periods, lambda f: f.update(closed=False, settling=True) if f["period"] == 1 else None
    )


def never_closed_the_last(h: Recorded) -> Recorded:
    """Open the bills of the first two periods again, although all lanes are past them."""
    return h.edited(
        h.topics.periods, lambda f: f.update(closed=False, settling=True) if f["period"] <= 2 else None
    )


def closed_too_early(h: Recorded) -> Recorded:
    return h.edited(h.topics.periods, lambda f: f.update(closed=True))


def called_final(h: Recorded) -> Recorded:
    """Mark closed bills as final, although reservations of the second period are open."""
    return h.edited(h.topics.periods, lambda f: f.update(settling=not f["closed"]))


def forgotten_too_early(h: Recorded) -> Recorded:
    return h.edited(h.topics.plans, lambda f: f.update(billed=2))


def late_outcomes_not_billed(h: Recorded) -> Recorded:
    """Remove the updates of the closed bill that the outcomes in the third period caused."""
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
    """Repeat an older bill, as if a fenced planner had written it."""
    early = next(e for e in bills_of(h, 1) if not orjson.loads(e.value or b"")["closed"])
    return h.with_more(early)


BILL_CORRUPTIONS: list[tuple[Corruption, str]] = [
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
]
