"""Budget: a limit on the US dollars, queries or tokens that queries draw in a period."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from routing.budgets.money import MAX_USD, PICO, to_pico

Unit = Literal["usd", "queries", "tokens"]
UNITS: tuple[Unit, ...] = get_args(Unit)

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
"""Seconds of each `per` of a rate."""

EMPTY = ""
"""Value of queries that have no usable value in the field of `group_by`."""

OTHER = "other"
"""Value that all values beyond `max_values` share."""

MAX_VALUE_CHARACTERS = 256
MAX_VALUES = 10_000
MAX_COUNT = 10**15
"""Maximum limit in queries or tokens."""


@dataclass(frozen=True)
class Budget:
    """A limit on what queries draw in a period.

    Parameters
    ----------
    name : str
    unit : {"usd", "queries", "tokens"}
    limit : float, optional
        Limit in the unit. With `group_by` it is the limit of every value.
    models : tuple of str
        Names or globs of the LLMs that draw on the budget. `!name` excludes. The default is all LLMs.
    group_by : str, optional
        Field of the query, such as `metadata.team` or `header:tenant`. Each of its values has a counter.
    limits : mapping of str to float
        Limits by value, for a budget with `group_by`.
    default : float, optional
        Limit of values that are not in `limits`. Without it, their limit is 0.
    per : {"second", "minute", "hour", "day"}, optional
        Makes the budget a rate: the limit grows with time.
    burst : float, optional
        Maximum that a rate lets through at once. The default is the limit.
    required : bool
        Whether a query without a usable value is an error of the query.
    max_values : int
        Values with a counter of their own. Further values share the counter `OTHER`.

    Examples
    --------
    >>> team = Budget("team", group_by="metadata.team", limits={"search": 50}, default=5)
    >>> team.limit_of("search"), team.limit_of("new")
    (50000000000000, 5000000000000)
    """

    name: str
    unit: Unit = "usd"
    limit: float | None = None
    models: tuple[str, ...] = ("*",)
    group_by: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    default: float | None = None
    per: str | None = None
    burst: float | None = None
    required: bool = False
    max_values: int = MAX_VALUES

    def __hash__(self) -> int:
        return hash((self.name, self.unit, self.group_by, self.limit))

    @property
    def is_rate(self) -> bool:
        """True if the limit grows with time."""
        return self.per is not None

    def limit_of(self, value: str | None = None) -> int:
        """Return the limit of a value in the smallest unit: picodollars, queries or tokens.

        For a rate it is the limit for each `per`.

        Parameters
        ----------
        value : str, optional
            None for a budget without `group_by`.
        """
        return self._smallest(self._limit(value))

    def burst_of(self, value: str | None = None) -> int:
        """Return the maximum that a rate lets through at once, in the smallest unit."""
        return self._smallest(self._limit(value) if self.burst is None else self.burst)

    def rate_of(self, value: str | None = None) -> float:
        """Return the smallest units by which a rate's limit grows each second; 0 without `per`."""
        return 0.0 if self.per is None else self.limit_of(value) / SECONDS[self.per]

    def initial_limit_of(self, value: str | None = None) -> int:
        """Return the limit at the beginning of the first period: a rate begins with its burst."""
        return self.burst_of(value) if self.is_rate else self.limit_of(value)

    def covers(self, models: Sequence[str]) -> NDArray[np.bool_]:
        """Return the LLMs that draw on the budget, shape [M]."""
        return np.array([matches(name, self.models) for name in models], dtype=bool)

    def _limit(self, value: str | None) -> float:
        if value is not None and value in self.limits:
            return self.limits[value]
        if self.limit is not None:
            return self.limit
        return 0.0 if self.default is None else self.default

    def _smallest(self, amount: float) -> int:
        return int(to_pico(amount)) if self.unit == "usd" else math.floor(amount)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether names or globs select a name; `!` excludes, and exclusions alone select all others.

    No pattern selects nothing.

    Examples
    --------
    >>> matches("gpt-4", ("gpt-*", "!gpt-3*")), matches("gpt-3.5", ("gpt-*", "!gpt-3*"))
    (True, False)
    >>> matches("gpt-4", ("!gpt-3*",))
    True
    """
    if not patterns:
        return False
    excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    included = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    return any(_fits(name, one) for one in included) and not any(_fits(name, one) for one in excluded)


def _fits(name: str, pattern: str) -> bool:
    # A name with brackets is a glob of its own: compare it as it is, too.
    return name == pattern or fnmatchcase(name, pattern)


def value_of(raw: object) -> str | None:
    """Return the value of a field for `group_by`; None if it is missing, null, not a text or too long.

    Examples
    --------
    >>> value_of("search"), value_of(7), value_of("x" * 257)
    ('search', None, None)
    """
    return raw if isinstance(raw, str) and len(raw) <= MAX_VALUE_CHARACTERS else None


def unit_name(unit: Unit, amount: int) -> str:
    """Return an amount in the smallest unit as a text.

    Examples
    --------
    >>> unit_name("usd", 2_500_000_000_000), unit_name("queries", 3)
    ('2.5 USD', '3 queries')
    """
    return f"{amount / PICO:.6g} USD" if unit == "usd" else f"{amount} {unit}"


def maximum(unit: Unit) -> float:
    """Return the largest valid limit in a unit."""
    return MAX_USD if unit == "usd" else float(MAX_COUNT)
