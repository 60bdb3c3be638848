"""Events of budgets: a share of a limit is used, or a budget will be used up before its period ends."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

USED, EXHAUSTION = "used", "exhaustion"
EVENTS = (USED, EXHAUSTION)


@dataclass(frozen=True)
class BudgetEvent:
    """A message on the topic of budget events.

    Parameters
    ----------
    event : {"used", "exhaustion"}
        A threshold is reached, or the budget will be used up early at the present rate.
    period : int
    budget : str
    value : str or None
        Value of `group_by`.
    unit : {"usd", "queries", "tokens"}
    limit, used : float
        In the unit. `used` has what is spent and what is reserved.
    share : float
        `used` over `limit`.
    progress : float
        Share of the period that is over.
    at : float
        Seconds since the epoch.
    threshold : float, optional
        Share of the limit that was reached: 0.5, 0.8 or 1. None for a forecast.
    exhausted_at : float, optional
        Share of the period at which the budget will be used up. None for a threshold.
    ends_at : float, optional
        End of a period that ends by time, in seconds since the epoch.
    """

    event: str
    period: int
    budget: str
    value: str | None
    unit: str
    limit: float
    used: float
    share: float
    progress: float
    at: float
    threshold: float | None = None
    exhausted_at: float | None = None
    ends_at: float | None = None

    @property
    def key(self) -> bytes:
        """Key of the message: the counter's name."""
        return (self.budget if self.value is None else f"{self.budget}={self.value}").encode()

    def encode(self) -> bytes:
        """Return the message's value, without fields that do not apply."""
        data = {name: value for name, value in vars(self).items() if value is not None or name == "value"}
        return orjson.dumps(data)
