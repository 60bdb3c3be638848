"""Summaries of periods: sums over lanes, closed and settling periods."""

from dataclasses import replace

import orjson

from streams.ledger.period_summary import (
    PeriodSummary,
    all_past,
    decode_period,
    encode_period,
    summarise,
)
from tests.streams.sample_cluster import MODELS, USD, ints, make_account, make_ledger, make_ledgers

BUDGETS = [10 * USD, 20 * USD]


def of(period: int, ledgers=None, models=MODELS) -> PeriodSummary:
    return summarise(period, models, BUDGETS, 3, make_ledgers() if ledgers is None else ledgers)


def test_summarise_sums_lanes_and_round_trips():
    last, current = of(2), of(3)
    assert (last.period, last.arrived, last.charged) == (2, 99, [9 * USD, 0])
    assert (current.period, current.closed, current.settling) == (3, False, True)
    assert current.arrived == 41, "the deferred one is counted where it was decided"
    assert current.charged == [4 * USD, 6 * USD]
    assert current.budgets == BUDGETS
    assert decode_period(encode_period(current)) == current


def test_summarise_after_all_lanes_left_is_closed():
    ledgers = make_ledgers()
    assert of(2).closed
    behind = make_ledger(2, replace(ledgers[2].account, period=2))
    assert not of(2, ledgers | {2: behind}).closed
    del ledgers[2]
    assert not of(2, ledgers).closed, "a lane that never wrote may still do so by an older plan"
    assert all_past(2, 2, ledgers)


def test_summarise_closed_period_with_open_reservation_is_settling():
    def served(settlements: int, lapsed: int) -> PeriodSummary:
        one = make_account(2, served=ints(5, 2), settlements=ints(settlements, 1), lapsed=ints(lapsed, 1))
        return of(2, make_ledgers() | {1: make_ledger(1, make_account(3), closed=one)})

    assert served(4, 0).settling
    assert not served(4, 1).settling
    assert not served(5, 0).settling
    assert served(5, 0).closed


def test_summarise_with_added_llm_has_zeros_for_it():
    assert of(2, models=(*MODELS, "new")).charged == [9 * USD, 0, 0]


def test_decode_period_of_older_release_sets_settling():
    plain = orjson.loads(encode_period(of(2)))
    del plain["settling"]
    assert not decode_period(orjson.dumps(plain)).settling
    assert decode_period(orjson.dumps({**plain, "closed": False})).settling
