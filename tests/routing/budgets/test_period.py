"""Periods by the calendar of a time zone."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.budgets.period import CalendarPeriod

BERLIN = ZoneInfo("Europe/Berlin")


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=BERLIN).timestamp()


def berlin(every: str, day: int = 1, hour: int = 0) -> CalendarPeriod:
    return CalendarPeriod(every, day, hour, "Europe/Berlin")


@pytest.mark.parametrize(
    ("period", "now", "begin", "end"),
    [
        (berlin("month"), at(2026, 3, 15), at(2026, 3, 1), at(2026, 4, 1)),
        (berlin("month", 28, 6), at(2026, 1, 2), at(2025, 12, 28, 6), at(2026, 1, 28, 6)),
        (berlin("month", 1, 6), at(2026, 3, 1, 5), at(2026, 2, 1, 6), at(2026, 3, 1, 6)),
        (berlin("week"), at(2026, 3, 29, 23), at(2026, 3, 23), at(2026, 3, 30)),
        (berlin("week", 7, 9), at(2026, 3, 29, 8), at(2026, 3, 22, 9), at(2026, 3, 29, 9)),
        (berlin("day"), at(2026, 10, 25, 12), at(2026, 10, 25), at(2026, 10, 26)),
    ],
)
def test_bounds_follow_the_calendar(period: CalendarPeriod, now: float, begin: float, end: float):
    assert period.bounds(now) == (begin, end)


def test_days_have_23_or_25_hours_when_clocks_change():
    for noon, hours in ((at(2026, 3, 29, 12), 23), (at(2026, 10, 25, 12), 25)):
        begin, end = berlin("day").bounds(noon)
        assert end - begin == hours * 3600


@given(
    st.sampled_from(["day", "week", "month"]),
    st.integers(1, 7),
    st.integers(0, 23),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"]),
    st.floats(0, 4e9),
)
def test_periods_follow_each_other_without_gaps(every: str, day: int, hour: int, zone: str, now: float):
    period = CalendarPeriod(every, 1 if every == "day" else day, hour, zone)

    begin, end = period.bounds(now)

    assert begin <= now < end
    assert period.bounds(begin) == (begin, end)
    assert period.bounds(end)[0] == end
