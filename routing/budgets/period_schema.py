"""Periods as plain data: the entry `period` of a catalogue, and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from routing.budgets.period import (
    EVERY,
    MAX_START_DAY,
    CalendarPeriod,
    Period,
    QueryPeriod,
    TimePeriod,
)
from routing.budgets.schema import check_amount, check_text, check_whole, shown, unknown_keys

CALENDAR_KEYS = ("every", "start_day", "start_hour", "time_zone")
FORMS = "one of {every: day|week|month, time_zone: ...}, {queries: N} and {seconds: S}"


def period_from_dict(data: object) -> tuple[Period | None, list[str]]:
    """Return the period of plain data, or None, and its problems.

    Parameters
    ----------
    data : mapping or str
        `every` with `start_day`, `start_hour` and `time_zone`; or `queries`; or `seconds`. A text is `every`.

    Examples
    --------
    >>> period_from_dict({"every": "month", "time_zone": "Europe/Berlin"})[0].time_zone
    'Europe/Berlin'
    >>> period_from_dict({"every": "year"})[1]
    ["period.every: 'year' is none of day, week, month"]
    """
    if isinstance(data, str):
        data = {"every": data}
    if not isinstance(data, Mapping):
        return None, [f"period: {shown(data)} must be {FORMS}"]
    forms = [name for name in ("every", "queries", "seconds") if name in data]
    if len(forms) != 1:
        return None, [f"period: {shown(dict(data))} must be {FORMS}"]
    form = forms[0]
    problems = unknown_keys(data, CALENDAR_KEYS if form == "every" else (form,), "period")
    if form == "queries":
        problems += check_whole(data[form], "period.queries", 1, 10**12)
        missing = data[form] is None
        return (None if problems or missing else QueryPeriod(data[form])), problems
    if form == "seconds":
        problems += check_amount(data[form], "period.seconds", 1e9, 1.0)
        missing = data[form] is None
        return (None if problems or missing else TimePeriod(float(data[form]))), problems
    return _calendar(data, problems)


def _calendar(data: Mapping[str, Any], problems: list[str]) -> tuple[Period | None, list[str]]:
    every, zone = data["every"], data.get("time_zone", "UTC")
    if every not in EVERY:
        return None, [*problems, f"period.every: {shown(every)} is none of {', '.join(EVERY)}"]
    day, hour = data.get("start_day", 1), data.get("start_hour", 0)
    problems += check_whole(day, "period.start_day", 1, MAX_START_DAY[every])
    problems += check_whole(hour, "period.start_hour", 0, 23)
    problems += check_text(zone, "period.time_zone") or _zone_problems(zone)
    if problems:
        return None, problems
    return CalendarPeriod(every, day, hour, zone), []


def _zone_problems(zone: str) -> list[str]:
    try:
        ZoneInfo(zone)
    except (LookupError, ValueError, OSError):
        return [f"period.time_zone: {shown(zone)} is no IANA time zone; give one such as Europe/Berlin"]
    return []


def period_to_dict(period: Period) -> dict[str, Any]:
    """Return the plain data of a period, for `period_from_dict`."""
    if isinstance(period, QueryPeriod):
        return {"queries": period.queries}
    if isinstance(period, TimePeriod):
        return {"seconds": period.seconds}
    return {name: getattr(period, name) for name in CALENDAR_KEYS}
