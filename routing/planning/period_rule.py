"""Period rule: the end, the progress and the expected remaining queries of a budget period."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PeriodRule:
    """The rule that ends a budget period: after a number of queries, or after a time.

    Parameters
    ----------
    horizon : int
        N, the queries of a period; for a period that ends by time, the queries expected in it.
    seconds : float, optional
        Length of a period. None: the period ends after N decided queries.

    Examples
    --------
    >>> by_count, by_time = PeriodRule(100), PeriodRule(100, seconds=60.0)
    >>> by_count.is_over(decided=100, elapsed=1.0), by_time.is_over(decided=100, elapsed=1.0)
    (True, False)
    >>> by_count.progress(arrived=30, elapsed=15.0), by_time.progress(arrived=30, elapsed=15.0)
    (0.3, 0.25)
    """

    horizon: int
    seconds: float | None = None

    @classmethod
    def of(cls, horizon: int, began_at: float, ends_at: float | None) -> PeriodRule:
        """Return the rule of a period from its beginning and its end in seconds; no end: by queries.

        Examples
        --------
        >>> PeriodRule.of(100, 1000.0, 1060.0) == PeriodRule(100, seconds=60.0)
        True
        """
        return cls(horizon, None if ends_at is None else ends_at - began_at)

    def is_over(self, decided: int, elapsed: float) -> bool:
        """Return whether the period has ended.

        Parameters
        ----------
        decided : int
            Queries of the period that were decided.
        elapsed : float
            Seconds since the period began.
        """
        return decided >= self.horizon if self.seconds is None else elapsed >= self.seconds

    def progress(self, arrived: int, elapsed: float) -> float:
        """Return the share of the period that has passed; above 1 when the period is overdue.

        Parameters
        ----------
        arrived : int
            Queries of the period so far.
        elapsed : float
            Seconds since the period began.
        """
        return arrived / self.horizon if self.seconds is None else max(0.0, elapsed) / self.seconds

    def expected_remaining(self, arrived: int, elapsed: float) -> float:
        """Return the number of queries that the rest of the period is expected to bring.

        Parameters
        ----------
        arrived : int
            Queries of the period so far.
        elapsed : float
            Seconds since the period began.

        Notes
        -----
        The expected rate of a period of T seconds is N/T. When a share f of the period has passed, the
        observed rate arrived/(f T) has weight f and the expected rate has weight 1 - f:
        (1 - f) T ((1 - f) N/T + f arrived/(f T)) = (1 - f) ((1 - f) N + arrived).

        Examples
        --------
        >>> by_time = PeriodRule(100, seconds=60.0)
        >>> by_time.expected_remaining(0, 0.0), by_time.expected_remaining(50, 30.0)
        (100.0, 50.0)
        >>> PeriodRule(100).expected_remaining(30, 1e9)
        70.0
        """
        if self.seconds is None:
            return float(max(0, self.horizon - arrived))
        remaining_share = min(1.0, max(0.0, 1 - elapsed / self.seconds))
        return remaining_share * (remaining_share * self.horizon + arrived)
