"""Periods of budgets: by queries, by seconds, or by the calendar of a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

EVERY = ("day", "week", "month")
MAX_START_DAY = {"day": 1, "week": 7, "month": 28}
"""Largest `start_day`: days of the week from Monday, or days that every month has."""


@dataclass(frozen=True)
class QueryPeriod:
    """A period that ends after a number of queries."""

    queries: int


@dataclass(frozen=True)
class TimePeriod:
    """A period of a fixed length in seconds."""

    seconds: float


@dataclass(frozen=True)
class CalendarPeriod:
    """A period of a day, a week or a month in a time zone.

    Parameters
    ----------
    every : {"day", "week", "month"}
    start_day : int
        Day of the week (1 is Monday) or of the month (1 to 28) on which a period begins.
    start_hour : int
        Hour of that day, 0 to 23, in the time zone.
    time_zone : str
        IANA name, such as `Europe/Berlin`.

    Examples
    --------
    The day on which clocks go forward in Berlin has 23 hours.

    >>> begin, end = CalendarPeriod("day", time_zone="Europe/Berlin").bounds(1774742400.0)
    >>> (end - begin) / 3600
    23.0
    """

    every: str
    start_day: int = 1
    start_hour: int = 0
    time_zone: str = "UTC"

    def bounds(self, at: float) -> tuple[float, float]:
        """Return the beginning and the end of the period that contains a time, in seconds since the epoch.

        Parameters
        ----------
        at : float
            Seconds since the epoch.
        """
        zone = ZoneInfo(self.time_zone)
        day = datetime.fromtimestamp(at, zone).date()
        begin = datetime(day.year, day.month, day.day, self.start_hour)
        if self.every == "week":
            begin -= timedelta(days=(day.isoweekday() - self.start_day) % 7)
        elif self.every == "month":
            begin = begin.replace(day=self.start_day)
        # Around the start hour, the period of the local date may begin later, or the one before may last on.
        while _epoch(begin, zone) > at:
            begin = self._step(begin, -1)
        while _epoch(after := self._step(begin, 1), zone) <= at:
            begin = after
        return _epoch(begin, zone), _epoch(self._step(begin, 1), zone)

    def _step(self, begin: datetime, steps: int) -> datetime:
        if self.every == "month":
            months = begin.year * 12 + begin.month - 1 + steps
            return begin.replace(year=months // 12, month=months % 12 + 1)
        return begin + timedelta(days=steps * (7 if self.every == "week" else 1))


Period = QueryPeriod | TimePeriod | CalendarPeriod


def _epoch(local: datetime, zone: ZoneInfo) -> float:
    """Return a local time in seconds since the epoch; an hour that clocks skip begins after the gap."""
    return local.replace(tzinfo=zone).timestamp()
