"""Settlement: an outcome settles its reservation once, also across restarts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routing.policy.account import Account
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch, id_digests
from streams.ledger.settlement import Settlement, SettlementResult
from streams.messages.outcome import (
    Outcome,
    encode_outcome,
)

MODELS = ("a", "b")
PICO = 10**12


@dataclass
class Message:
    """An outcome at an offset, as the outcome reader returns it."""

    where: int
    content: bytes | None

    def value(self) -> bytes | None:
        return self.content

    def offset(self) -> int:
        return self.where

    def key(self) -> None:
        return None

    def headers(self) -> None:
        return None


def outcome(where: int, offset: int, cost: float = 0.25, **fields) -> Message:
    values = {"id": f"q{offset}", "model": MODELS[offset % 2], "partition": 3, "quality": None} | fields
    return Message(where, encode_outcome(Outcome(cost=cost, offset=offset, **values)))


def reserved(
    offsets: list[int], outcomes_next: int = 0, period: int = 1, created_at: float = 0.0
) -> ReservationBatch:
    n = len(offsets)
    return ReservationBatch(
        period=period,
        version=1,
        revision=1,
        offsets=np.array(offsets, dtype=np.int64),
        model=np.array([offset % 2 for offset in offsets], dtype=np.int64),
        charge=np.full(n, PICO, dtype=np.int64),
        quality=np.full(n, 0.5),
        ids=id_digests([f"q{offset}" for offset in offsets]),
        outcomes_next=outcomes_next,
        available=np.zeros(2, dtype=np.int64),
        created_at=created_at,
    )


def lane(*batches: ReservationBatch, seconds: float = 100.0) -> tuple[Settlement, LedgerRecord]:
    """Return a lane with these reservations."""
    settlement = Settlement(3, seconds)
    account = Account.fresh(1, 2)
    record = replace(LedgerRecord.fresh(3), models=MODELS, account=account)
    for where, batch in enumerate(batches):
        settlement.reservations.append(where, batch)
        record = charged(record, batch)
    return settlement, record


def charged(record: LedgerRecord, batch: ReservationBatch) -> LedgerRecord:
    rows = np.zeros((len(batch.offsets), 2), dtype=np.int64)
    rows[np.arange(len(rows)), batch.model] = batch.charge
    account = record.account.with_charges(batch.model, rows)
    return replace(record, account=account, next=int(batch.offsets[-1]) + 1)


def kinds(settled: SettlementResult) -> dict[str, int]:
    return {kind: count for kind, count in settled.record.outcomes.items() if count}


def reasons(settled: SettlementResult) -> list[str]:
    return [error.field for _, error in settled.refused]


def test_settle_outcomes_replaces_reservations():
    settlement, record = lane(reserved([0, 1, 2]))
    settled = settlement.settle(record, [outcome(0, 0, 0.25), outcome(1, 1, 3.0), outcome(2, 2, 0.0)])
    assert settled.record.account.charged.tolist() == [PICO // 4, 3 * PICO]
    assert settled.record.account.settlements.tolist() == [2, 1]
    assert settled.record.outcomes_next == 3
    assert kinds(settled) == {"settled": 3}
    assert settled.refused == []
    assert settled.record.exceeded == {"a": [2, 0], "b": [1, 1]}, "a failure would not be an answer"
    assert record.account.charged.tolist() == [2 * PICO, PICO], "the record given is not changed"


def test_settle_duplicate_outcome_counts_it_once():
    settlement, record = lane(reserved([0]))
    first = settlement.settle(record, [outcome(0, 0), outcome(1, 0)])
    again = settlement.settle(first.record, [outcome(2, 0)])
    assert again.record.account.charged.tolist() == [PICO // 4, 0]
    assert kinds(again) == {"settled": 1, "duplicate": 2}
    assert again.refused == []


def test_settle_earlier_messages_skips_them():
    settlement, record = lane(reserved([0, 1]))
    first = settlement.settle(record, [outcome(0, 0), outcome(1, 1)])
    again = settlement.settle(first.record, [outcome(0, 0), outcome(1, 1)])
    assert again.record.encode() == first.record.encode()
    assert again.refused == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (outcome(0, 0, id="other"), "contradictory"),
        (outcome(0, 0, model="b"), "contradictory"),
        (outcome(0, 0, model="nobody"), "contradictory"),
        (outcome(0, 7), "unknown"),
        (outcome(0, 99), "unknown"),
        (outcome(0, 0, partition=2), "unknown"),
        (Message(0, b"{"), "value"),
        (Message(0, None), "value"),
        (outcome(0, 0, cost=-1.0), "cost"),
        (outcome(0, 0, cost=1e5), "cost"),
    ],
)
def test_settle_rejected_outcome_keeps_reservation_open(message, reason):
    settlement, record = lane(reserved([0, 2, 8]))
    settled = settlement.settle(record, [message])
    assert reasons(settled) == [reason]
    assert settled.record.account.charged.tolist() == record.account.charged.tolist()
    assert settled.record.outcomes_next == 1
    assert kinds(settlement.settle(settled.record, [outcome(1, 0)]))["settled"] == 1


def test_settle_second_outcome_with_other_cost_is_contradictory():
    settlement, record = lane(reserved([0]))
    settled = settlement.settle(record, [outcome(0, 0, 0.25), outcome(1, 0, 0.5)])
    assert reasons(settled) == ["contradictory"]
    assert settled.record.account.charged.tolist() == [PICO // 4, 0]


def test_settle_after_expiry_is_late():
    settlement, record = lane(reserved([0, 1], created_at=0.0), reserved([2], created_at=50.0))
    record = settlement.settle(record, [outcome(0, 0)]).record
    assert settlement.has_old(101.0)
    record = settlement.expire(record, 101.0)
    assert record.account.lapsed.tolist() == [0, 1]
    assert record.account.charged.tolist() == [PICO // 4 + PICO, PICO]
    late = settlement.settle(record, [outcome(1, 1)])
    assert reasons(late) == ["late"]
    assert late.record.account.charged.tolist() == record.account.charged.tolist()
    # all expired: outcomes of decided queries are late, others are unknown
    record = settlement.expire(late.record, 200.0)
    assert reasons(settlement.settle(record, [outcome(2, 2), outcome(3, 3)])) == ["late", "unknown"]


def test_settle_late_period_changes_its_own_account():
    settlement, record = lane(reserved([0, 1]))
    for period in (2, 3, 4):
        record = record.entering(Account.fresh(period, 2))
    settlement.reservations.append(1, reserved([2], period=4))
    record = charged(record, reserved([2], period=4))
    settled = settlement.settle(record, [outcome(0, 0), outcome(1, 2), outcome(2, 0)])
    assert kinds(settled) == {"settled": 2, "duplicate": 1}
    record = settled.record
    assert record.account_of(1).charged.tolist() == [PICO // 4, PICO]
    assert record.account.charged.tolist() == [PICO // 4, 0], "nothing is freed in the present period"
    assert [record.account_of(period).settlements.sum() for period in (2, 3)] == [0, 0]
    # reservations without an outcome expire there
    record = settlement.expire(record, 101.0)
    assert record.account_of(1).lapsed.tolist() == [0, 1]
    assert record.account.lapsed.tolist() == [0, 0]


def test_settle_period_forgotten_by_older_release_is_late():
    settlement, record = lane(reserved([0]))
    record = replace(record, account=Account.fresh(3, 2), past={2: Account.fresh(2, 2)}, forgotten=1)
    settled = settlement.settle(record, [outcome(0, 0)])
    assert reasons(settled) == ["late"]
    assert all(not account.charged.any() for account in settled.record.accounts)
    assert settlement.expire(settled.record, 101.0).encode() == settled.record.encode()


def test_settle_with_quality_sums_reported_and_estimated_quality():
    settlement, record = lane(reserved([0, 1, 2]))
    messages = [outcome(0, 0, quality=1.0), outcome(1, 1), outcome(2, 2, quality=0.25)]
    settled = settlement.settle(record, messages)
    assert settled.record.reported["a"].to_list() == [2, 1.25, 1.0, pytest.approx(0.5)]


# --- restarts -----------------------------------------------------------------------------------------------

events = st.lists(
    st.one_of(
        st.tuples(st.just("route"), st.integers(1, 3)),
        st.tuples(
            st.just("outcome"),
            st.integers(0, 12),
            st.sampled_from([0.25, 0.5]),
            st.sampled_from([None, {"id": "other"}, {"model": "nobody"}, {"partition": 1}]),
        ),
        st.tuples(st.just("take"), st.integers(0, 4)),
        st.tuples(st.just("wait"), st.sampled_from([10.0, 60.0])),
        st.tuples(st.just("period"), st.just(0)),
    ),
    max_size=40,
)


class Lane:
    """A lane whose transactions settle, expire, reserve and write its record, as the processor does."""

    def __init__(self) -> None:
        self.settlement, self.record = lane()
        self.outcomes: list[Message] = []
        self.reservations: list[ReservationBatch] = []
        self.now = 0.0

    def transaction(self, route: int = 0, take: int = 2) -> None:
        record = self.record
        batch = None
        if route:
            offsets = list(range(record.next, record.next + route))
            batch = reserved(offsets, period=record.account.period, created_at=self.now)
            record = charged(record, batch)
        messages = self.outcomes[record.outcomes_next : record.outcomes_next + take]
        record = self.settlement.settle(record, messages).record
        record = self.settlement.expire(record, self.now)
        record = replace(record, reservations_from=self.settlement.reservations.oldest())
        if batch is not None:
            batch.outcomes_next = record.outcomes_next
            self.reservations.append(batch)
            self.settlement.reservations.append(len(self.reservations) - 1, batch)
        self.record = record

    def restarted(self) -> Settlement:
        """Rebuild from the logs, as `RouterProcessor.open` does."""
        start = self.record.reservations_from
        batches = [
            (where, replace(batch, paid=np.zeros(0, dtype=np.int64)))
            for where, batch in enumerate(self.reservations)
            if where >= start
        ]
        first_outcome = batches[0][1].outcomes_next if batches else self.record.outcomes_next
        settlement = Settlement(3, 100.0)
        settlement.rebuild(self.record, batches, self.outcomes[first_outcome : self.record.outcomes_next])
        return settlement

    def do(self, event: tuple) -> None:
        if event[0] == "route":
            self.transaction(route=event[1])
        elif event[0] == "outcome":
            self.outcomes.append(outcome(len(self.outcomes), event[1], event[2], **(event[3] or {})))
        elif event[0] == "take":
            self.transaction(take=event[1])
        elif event[0] == "wait":
            self.now += event[1]
            self.transaction(take=0)
        else:
            period = self.record.account.period + 1
            self.record = self.record.entering(Account.fresh(period, 2))


def state(lane: Lane) -> list[tuple]:
    """Return the state of all reservations."""
    known = lane.settlement.reservations
    matches = (known.find(offset) for offset in range(200))
    rows = [(batch.offsets[row], batch.paid[row], batch.created_at) for batch, row in filter(None, matches)]
    return [known.oldest(), known.size, *map(tuple, rows)]


EARLY = [("route", 1), ("outcome", 1, 0.25, None), ("take", 1), ("route", 1), ("outcome", 1, 0.5, None)]


@given(events, st.integers(0, 39))
@example(EARLY, 3)
@example([*EARLY, ("wait", 60.0), ("wait", 60.0), ("take", 4)], 5)
@example([*EARLY, ("take", 2), ("period", 0), ("period", 0), ("outcome", 1, 0.5, None), ("take", 1)], 7)
@settings(max_examples=300)
def test_rebuild_at_any_time_restores_the_state(steps, kill):
    """Outcomes may come before their query, contradict it, or be duplicates."""
    alive, killed = Lane(), Lane()
    for number, event in enumerate(steps):
        alive.do(event)
        killed.do(event)
        if number == kill:
            before = state(killed)
            killed.settlement = killed.restarted()
            assert state(killed) == before
    assert killed.record.encode() == alive.record.encode()
    for period in alive.record.past:
        assert killed.record.encode_account(period) == alive.record.encode_account(period)


@given(events)
@settings(max_examples=100)
def test_charges_equal_open_expired_and_settled_amounts(steps):
    lane_state = Lane()
    for event in steps:
        lane_state.do(event)
    for account in lane_state.record.accounts:
        period_batches = [batch for batch in lane_state.reservations if batch.period == account.period]
        reserved_sum = np.zeros(2, dtype=np.int64)
        for batch in period_batches:
            np.add.at(reserved_sum, batch.model, batch.charge)
        assert account.reserved.tolist() == reserved_sum.tolist()
        paid = np.concatenate([batch.paid for batch in period_batches] or [np.zeros(0, np.int64)])
        charge = np.concatenate([batch.charge for batch in period_batches] or [np.zeros(0, np.int64)])
        assert int(account.charged.sum()) == int(np.where(paid >= 0, paid, charge).sum())
        assert int(account.settlements.sum()) == int((paid >= 0).sum())
        first_offset = lane_state.settlement.reservations.first_offset
        lapsed = sum(
            int((batch.paid < 0).sum())
            for batch in period_batches
            if first_offset is None or batch.offsets[0] < first_offset
        )
        assert int(account.lapsed.sum()) == lapsed, "what is neither settled nor lapsed is open"
