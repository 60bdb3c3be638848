"""Planning settings and the schedule of price solves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from routing.budgets.period import CalendarPeriod, Period, QueryPeriod, TimePeriod


@dataclass(frozen=True)
class PlanningSettings:
    """Settings of the planner; names and defaults are those of the router's settings.

    Parameters
    ----------
    horizon : int
        N, the queries of a period; for a period that ends by time, the queries expected in it.
    period_seconds : float, optional
        Length of a period. None: the period ends after N queries.
    eps : float
        Share of the horizon that is sampled before the first solve.
    warmup : {"buffer", "history", "random"}
        Hold the first queries back, start with prices from the history, or route the first queries at random.
    resolve : {"once", "geometric", "every"}
        Never solve again, solve again at 2, 4, 8, ... times eps N queries, or every `resolve_every` queries.
    resolve_every, resolve_late : int
        Queries between solves, and between solves in the last `resolve_tail` of the horizon.
    resolve_tail : float
        Share of the horizon.
    resolve_window : int
        Recent queries that "every" solves on, topped up with rows of the history.
    solver : {"exact", "newton"}
        HiGHS, or the smoothed dual.
    mix : {"recent", "remaining"}
        Queries that "every" solves on: the recent ones, or the history's rows weighted by the kinds of query
        that are still expected (`routing.planning.remaining_mix`; needs the history and the solver "newton").
    calendar : CalendarPeriod, optional
        Periods end by this calendar, by the planner's clock, whatever `period_seconds` says.
    top_up_samples : bool
        Add rows of the history when the samples are too few to price the LLMs
        (`routing.planning.sample_size`). The paper solves on the samples alone.
    """

    horizon: int
    period_seconds: float | None = None
    eps: float = 0.025
    warmup: Literal["buffer", "history", "random"] = "buffer"
    resolve: Literal["once", "geometric", "every"] = "once"
    resolve_every: int = 250
    resolve_late: int = 50
    resolve_tail: float = 0.2
    resolve_window: int = 2000
    solver: Literal["exact", "newton"] = "exact"
    mix: Literal["recent", "remaining"] = "recent"
    top_up_samples: bool = True
    calendar: CalendarPeriod | None = None

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon: {self.horizon} must be at least 1 query")
        if self.period_seconds is not None and self.period_seconds <= 0:
            raise ValueError(f"period_seconds: {self.period_seconds} must be above 0")
        if not 0 < self.eps <= 1:
            raise ValueError(f"eps: {self.eps} must be in (0, 1]")
        if self.resolve_every < 1 or self.resolve_late < 1 or self.resolve_window < 1:
            raise ValueError("resolve_every, resolve_late and resolve_window must be at least 1 query")

    def period_end(self, begin: float) -> float | None:
        """Return the end of a period that begins at a time, in seconds; None if it ends by queries."""
        if self.calendar is not None:
            return self.calendar.bounds(begin)[1]
        return None if self.period_seconds is None else begin + self.period_seconds

    def queries_from(self, begin: float) -> int:
        """Return the queries expected in a period that begins at a time, in seconds since the epoch.

        A router that starts amid a period of the calendar gets the rest of it, and that share of N.

        Examples
        --------
        >>> by_day = PlanningSettings(1000, calendar=CalendarPeriod("day"))
        >>> by_day.queries_from(0.0), by_day.queries_from(18 * 3600.0)
        (1000, 250)
        """
        if self.calendar is None:
            return self.horizon
        first, end = self.calendar.bounds(begin)
        return max(1, round(self.horizon * (end - begin) / (end - first)))

    def with_period(self, period: Period | None) -> PlanningSettings:
        """Return the settings with the period of a catalogue, which precedes that of the settings.

        Parameters
        ----------
        period : Period or None
            None: the settings as they are.

        Examples
        --------
        >>> hourly = PlanningSettings(1000, period_seconds=3600.0)
        >>> hourly.with_period(QueryPeriod(50)) == PlanningSettings(50)
        True
        """
        if period is None:
            return self
        if isinstance(period, QueryPeriod):
            return replace(self, horizon=period.queries, period_seconds=None, calendar=None)
        if isinstance(period, TimePeriod):
            return replace(self, period_seconds=period.seconds, calendar=None)
        return replace(self, period_seconds=None, calendar=period)

    def has_periods_of(self, other: PlanningSettings) -> bool:
        """Return whether periods end by the same rule as with other settings."""
        return other == replace(
            other, horizon=self.horizon, period_seconds=self.period_seconds, calendar=self.calendar
        )

    @property
    def _may_exceed_horizon(self) -> bool:
        return self.period_seconds is not None or self.calendar is not None

    @property
    def uses_history(self) -> bool:
        """True if prices may be solved on rows of the history."""
        return self.warmup == "history" or self.resolve == "every" or self.top_up_samples

    @property
    def warmup_queries(self) -> int:
        """n = ceil(eps N) of the paper; the 1e-9 keeps 0.025 * 1000 from becoming 26."""
        return max(1, math.ceil(self.eps * self.horizon - 1e-9))

    def next_solve(self, done: int, base: int) -> int | None:
        """Return the number of samples since the last restart at which the next solve is due, or None.

        Parameters
        ----------
        done : int
            Samples at the last solve since the restart; 0 before the first.
        base : int
            Queries of the period that were decided before the restart.
        """
        n = self.warmup_queries
        if not done and self.warmup != "history":
            return n
        if self.resolve == "once":
            return None
        if self.resolve == "geometric":
            upcoming = n if not done else 2 * n
            while upcoming <= done:
                upcoming *= 2
        else:
            late = (1 - self.resolve_tail) * self.horizon <= base + done < self.horizon
            upcoming = done + (self.resolve_late if late else self.resolve_every)
        return upcoming if self._may_exceed_horizon or base + upcoming < self.horizon else None
