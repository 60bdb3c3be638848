"""The router's processor across periods: accounts, outcomes and expired reservations."""

import orjson
import pytest

from streams.ledger.account_format import lane_key, period_of
from streams.ledger.record import LedgerFormatError
from streams.messages.dead_letter import split_dead_letter_headers
from tests.streams.router.memory_router import MemoryRouter, deliver_outcomes, ids, outcome_of, plan_with


def test_new_period_starts_fresh_account_and_settles_previous_one(router):
    processor = router.open_lane()
    router.send(*ids(10))
    router.deliver(processor)
    before = router.ledger(0).account
    router.plans.latest = plan_with(period=2, revision=9)
    processor.refresh_plan()
    assert processor.has_pending_work
    router.step(processor)
    record = router.ledger(0)
    assert (record.account.period, record.account.arrived) == (2, 0)
    assert record.past[1].charged.tolist() == before.charged.tolist()
    for query in router.routed():
        router.topics.add(router.names.outcomes, outcome_of(query, 0.0))
    deliver_outcomes(router, processor)
    router.step(processor)
    assert router.ledger(0).past[1].charged.tolist() == [0, 0, 0]
    assert router.ledger(0).account.charged.tolist() == [0, 0, 0]


def accounts_written(router: MemoryRouter, lane: int = 0) -> list[tuple[int, bool]]:
    """Return each account message of the lane's ledger: its period, and False if it is a tombstone."""
    keys = [(period_of(m.key()), m.value()) for m in router.topics.of(router.names.ledger, lane)]
    return [(period, value is not None) for period, value in keys if period is not None]


def test_settle_late_outcomes_changes_only_accounts_of_their_periods(router):
    processor = router.open_lane()
    for period in (1, 2, 3, 4):
        router.plans.latest = plan_with(period=period, revision=5 + period)
        router.send(*ids(6, 6 * period))
        router.deliver(processor)
    assert accounts_written(router) == [(1, True), (2, True), (3, True)], "written when a period ends"
    present = router.ledger(0).account
    late = sorted(router.routed(), key=lambda query: query["routing"]["period"])
    late = [query for query in late if query["routing"]["period"] in (1, 3)]
    for query in late[:-1]:
        router.topics.add(router.names.outcomes, outcome_of(query, 2 * query["routing"]["cost"]))
    router.topics.add(router.names.outcomes, outcome_of(late[0], 2 * late[0]["routing"]["cost"]))
    deliver_outcomes(router, processor)
    router.step(processor)
    record = router.ledger(0)
    assert record.outcomes == {"settled": len(late) - 1, "duplicate": 1}
    router.assert_ledgers_match_topics(0)
    first = record.past[1]
    assert first.charged.tolist() == first.settled.tolist()
    assert first.charged.sum() > 1.9 * first.reserved.sum(), "overruns are charged"
    assert record.account.charged.tolist() == present.charged.tolist()
    assert accounts_written(router)[3:] == [(1, True), (3, True)], "unchanged accounts are not written"
    # a successor reads the same state, settles the rest, and settles nothing twice
    successor = router.open_lane()
    router.topics.add(router.names.outcomes, outcome_of(late[-1], 0.0))
    for query in late[:-1]:
        router.topics.add(router.names.outcomes, outcome_of(query, 2 * query["routing"]["cost"]))
    deliver_outcomes(router, successor)
    router.step(successor)
    assert router.ledger(0).outcomes == {"settled": len(late), "duplicate": len(late)}
    router.assert_ledgers_match_topics(0)


def test_past_account_is_kept_until_settled_and_billed(router):
    processor = router.open_lane()
    for period in (1, 2):
        router.plans.latest = plan_with(period=period, revision=5 + period)
        router.send(*ids(6, 6 * period))
        router.deliver(processor)
    router.plans.latest = plan_with(period=3, revision=8, billed=1)
    router.step(processor)
    assert list(router.ledger(0).past) == [1, 2], "reservations are open"
    router.now += 3601
    router.step(processor)
    record = router.ledger(0)
    assert [record.past[period].lapsed.sum() for period in (1, 2)] == [6, 6]
    assert record.account.lapsed.sum() == 0
    router.plans.latest = plan_with(period=4, revision=9, billed=1)
    router.step(processor)
    record = router.ledger(0)
    assert (list(record.past), record.forgotten) == ([2, 3], 1)
    assert accounts_written(router)[-2:] == [(1, False), (3, True)]
    assert list(router.open_lane().record.past) == [2, 3]
    # an outcome after the time limit is rejected and changes no account
    query = next(query for query in router.routed() if query["routing"]["period"] == 1)
    router.topics.add(router.names.outcomes, outcome_of(query, 0.0))
    processor = router.open_lane()
    deliver_outcomes(router, processor)
    router.step(processor)
    assert router.ledger(0).outcomes == {"late": 1}
    router.assert_ledgers_match_topics(0)


def test_past_account_with_lost_reservations_expires(router):
    processor = router.open_lane()
    router.send(*ids(6))
    router.deliver(processor)
    router.topics.of(router.names.reservations, 0).clear()
    processor = router.open_lane()
    router.send(*ids(3, 6))
    router.deliver(processor)
    router.plans.latest = plan_with(period=2, revision=6)
    router.step(processor)
    account = router.ledger(0).past[1]
    assert (account.served.sum(), account.lapsed.sum()) == (9, 0), "the later batch is still known"
    for query in router.routed():
        router.topics.add(router.names.outcomes, outcome_of(query, query["routing"]["cost"]))
    deliver_outcomes(router, processor)
    router.step(processor)
    assert router.ledger(0).outcomes == {"settled": 3, "late": 6}
    processor._settlement._seconds = -1.0  # all reservations expire
    router.step(processor)
    account = router.ledger(0).past[1]
    assert (account.settlements.sum(), account.lapsed.sum()) == (3, 6)
    assert account.charged.tolist() == account.reserved.tolist(), "expired reservations stay charged"


def test_open_ledger_of_an_older_format_is_refused(router):
    processor = router.open_lane()
    router.send(*ids(3))
    router.deliver(processor)
    plain = router.ledger(0).to_dict()
    del plain["format"]
    router.topics.of(router.names.ledger, 0)[:] = []
    value = orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)
    router.topics.add(router.names.ledger, value).name = lane_key(0)

    with pytest.raises(
        LedgerFormatError, match="ledger of lane 0: it has format 1, and this release needs 2"
    ):
        router.open_lane()


def test_settle_invalid_outcome_produces_dead_letter(router):
    processor = router.open_lane()
    router.topics.add(router.names.outcomes, b"{}", 0, [("h", b"v")])
    deliver_outcomes(router, processor)
    processor.refresh_plan()
    assert processor.has_pending_work
    router.step(processor)
    (letter,) = router.topics.of(router.names.outcomes_dlq)
    original, errors = split_dead_letter_headers(letter.headers())
    assert (letter.value(), original, errors["offset"]) == (b"{}", [("h", b"v")], "0")
    assert router.ledger(0).outcomes_next == 1
