"""Past periods and counts of dead letters, from the topic of periods and the ledgers."""

from typing import Any

import pytest

from streams.config.settings import Settings
from streams.ledger.period_reader import MAX_KEPT_PERIODS, PeriodReader
from streams.ledger.period_summary import PeriodSummary, encode_period
from tests.streams.sample_cluster import make_account, make_ledger, make_ledgers


class Message:
    def __init__(self, value: bytes | None, key: bytes | None = b"1") -> None:
        self.value, self.key = lambda: value, lambda: key


def bill(period: int, dead: int = 0) -> Any:
    summary = PeriodSummary(
        period=period,
        closed=True,
        settling=False,
        models=(),
        budgets=[],
        reserved=[],
        settled=[],
        charged=[],
        served=[],
        settlements=[],
        lapsed=[],
        arrived=0,
        unserved=0,
        deferred=0,
        dead=dead,
    )
    return Message(encode_period(summary))


@pytest.fixture
def reader() -> PeriodReader:
    period_reader = PeriodReader(Settings(bootstrap_servers="nowhere:9092"))
    period_reader._follower.ready.set()
    return period_reader


def test_dead_letters_in_bill_and_ledger_are_counted_once(reader: PeriodReader):
    for message in (bill(1, 4), bill(2, 3), bill(2, 5), bill(3, 1), Message(None)):
        reader._read(message)  # type: ignore[arg-type]
    # period 3 has two dead letters in the ledgers and one on its bill; one lane has forgotten period 2
    assert reader.dead_letters(make_ledgers()) == {"queries": 4 + 5 + 2, "outcomes": 1}
    outcomes = {"settled": 9, "duplicate": 2, "unknown": 3}
    fourth = {0: make_ledger(0, make_account(4, dead=7), outcomes=outcomes)}
    assert reader.dead_letters(fourth) == {"queries": 4 + 5 + 1 + 7, "outcomes": 3}


def test_dead_letters_before_topic_is_read_are_empty():
    """Alerts use the growth of this number."""
    assert PeriodReader(Settings(bootstrap_servers="nowhere:9092")).dead_letters(make_ledgers()) == {}


def test_period_reader_keeps_newest_periods_and_all_dead_letters(reader: PeriodReader):
    for period in range(1, MAX_KEPT_PERIODS + 6):
        reader._read(bill(period, 1))
    assert [one.period for one in reader.newest()] == list(range(6, MAX_KEPT_PERIODS + 6))
    assert reader.dead_letters({})["queries"] == MAX_KEPT_PERIODS + 5
