"""When prices are learned: how many samples first, and how many before they are learned again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PlanningSettings:
    """How prices are learned; the names and defaults of the router's settings.

    Parameters
    ----------
    horizon : int
        N, queries in a period; as many as are expected of one that ends by time.
    period_seconds : float, optional
        How long a period lasts; None: it ends after N queries.
    eps : float
        Share of the horizon that is sampled before the first solve.
    warmup : {"buffer", "history", "random"}
        Let the first queries wait, start from the history, or route them at random.
    resolve : {"once", "geometric", "every"}
        Never solve again; at 2, 4, 8, ... times eps N; or every `resolve_every` queries.
    resolve_every, resolve_late : int
        Queries between solves, and in the last `resolve_tail` of the horizon.
    resolve_tail : float
        Share of the horizon.
    resolve_window : int
        Recent queries that "every" solves on, topped up with rows of the history.
    solver : {"exact", "newton"}
        HiGHS, or the smoothed dual.
    mix : {"recent", "remaining"}
        What "every" solves on: the recent queries, or the history's rows weighted by what of their kind is
        still to come (`routing.remaining`; needs the history and the solver "newton").
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

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon: {self.horizon} must be at least 1 query")
        if self.period_seconds is not None and self.period_seconds <= 0:
            raise ValueError(f"period_seconds: {self.period_seconds} must be above 0")
        if not 0 < self.eps <= 1:
            raise ValueError(f"eps: {self.eps} must be in (0, 1]")
        if self.resolve_every < 1 or self.resolve_late < 1 or self.resolve_window < 1:
            raise ValueError("resolve_every, resolve_late and resolve_window must be at least 1 query")

    @property
    def warmup_queries(self) -> int:
        """n = ceil(eps N) of the paper; the 1e-9 keeps 0.025 * 1000 from becoming 26."""
        return max(1, math.ceil(self.eps * self.horizon - 1e-9))

    def next_solve(self, done: int, base: int) -> int | None:
        """Samples since the last restart at which the next solve is due; None when no other will be.

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
        # a period that ends by time may bring more than was expected of it
        more = base + upcoming < self.horizon or self.period_seconds is not None
        return upcoming if more else None

    def still_to_arrive(self, arrived: int, seconds: float) -> float:
        """Queries that a period will still bring, as far as is known.

        Parameters
        ----------
        arrived : int
            Queries of the period so far.
        seconds : float
            Since it began.

        Notes
        -----
        A period of T seconds of which a share f is over brings its rate for what is left of it. The expected
        rate N/T counts for as much as is left, the rate so far for as much as is over:
        (1 - f) T ((1 - f) N/T + f arrived/(f T)) = (1 - f) ((1 - f) N + arrived).

        Examples
        --------
        >>> by_time = PlanningSettings(horizon=100, period_seconds=60.0)
        >>> by_time.still_to_arrive(0, 0.0), by_time.still_to_arrive(50, 30.0)
        (100.0, 50.0)
        >>> PlanningSettings(horizon=100).still_to_arrive(30, 1e9)
        70.0
        """
        if self.period_seconds is None:
            return float(max(0, self.horizon - arrived))
        left = min(1.0, max(0.0, 1 - seconds / self.period_seconds))
        return left * (left * self.horizon + arrived)
