"""The object `routing` that the router adds to a query: the lane, the plan and the reserved amount."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from streams.messages.fields import ORJSON_NUMPY

MAX_ATTEMPT = 1000
"""Maximum number of a decision about one query."""


class Attempt(NamedTuple):
    """One of the decisions about a query: its number, and the LLMs that returned the query before."""

    number: int
    tried: tuple[str, ...] = ()


FIRST_ATTEMPT = Attempt(1)


class RoutingInfoError(ValueError):
    """A message whose `routing` the router did not write.

    Parameters
    ----------
    field : str
        The invalid field, such as `routing.max_tokens`.
    reason : str
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class RoutingInfo(NamedTuple):
    """The decision about one query, as its routed or unserved message has it.

    The order of the fields is their order on the wire. Fields that are None are left out there.

    Parameters
    ----------
    plan, period : int or None
        Version of the plan and number of the budget period.
    partition : int
        Number of the lane that decided the query.
    routed_at : float or None
        Seconds since 1970.
    offset : int
        Offset of the query in the lane's input.
    source : (int, int) or None
        Partition and offset in `queries`, if the overflow lane decided the query.
    model : str or None
        Name of the chosen LLM; None for unserved queries. So are the following fields.
    quality : float or None
        Estimated quality, 0 to 1.
    cost : float or None
        Reserved amount in USD.
    price : float or None
        Price of the LLM's budget in the plan.
    max_tokens : int or None
        Limit of the answer's tokens; None if there is none. Without `reserve`, `cost` pays for so many.
    attempt : int
        Number of this decision about the query: 1, and one more after each return by a fleet.
    tried : tuple of str or None
        LLMs that returned the query, which this decision excludes.
    exhausted : list of str or None
        Budgets that cannot pay an unserved query.
    excluded : dict of str to str or None
        Reason why each LLM may not answer an unserved query.
    probability : float or None
        Probability of this decision, if chance had a part in it; None if it had none.
    reserve : str or None
        Percentile of the cost that `cost` is, such as "p95"; an answer of `max_tokens` costs more.
    """

    plan: int | None
    period: int | None
    partition: int
    routed_at: float | None
    offset: int
    source: tuple[int, int] | None = None
    model: str | None = None
    quality: float | None = None
    cost: float | None = None
    price: float | None = None
    max_tokens: int | None = None
    attempt: int = 1
    tried: tuple[str, ...] | None = None
    exhausted: list[str] | None = None
    excluded: dict[str, str] | None = None
    probability: float | None = None
    reserve: str | None = None

    @property
    def bound(self) -> int | None:
        """Answer tokens that `cost` pays for; None if the answer may cost more."""
        return self.max_tokens if self.reserve is None else None

    @property
    def origin(self) -> tuple[int, int]:
        """Partition and offset of the query in `queries`."""
        return self.source or (self.partition, self.offset)

    def encode(self) -> bytes:
        """Return the object as JSON.

        Examples
        --------
        >>> RoutingInfo(plan=3, period=1, partition=0, routed_at=1.5, offset=7).encode()
        b'{"plan":3,"period":1,"partition":0,"routed_at":1.5,"offset":7,"attempt":1}'
        """
        fields = {name: value for name, value in zip(self._fields, self, strict=True) if value is not None}
        return orjson.dumps(fields, option=ORJSON_NUMPY)

    @classmethod
    def decode(cls, message: object) -> RoutingInfo:
        """Read `routing` out of a decoded message.

        Parameters
        ----------
        message : object
            The message's fields. Optional fields of `routing` with a value of another type count as missing.

        Raises
        ------
        RoutingInfoError
            There is no `routing`, it does not say which record was decided, or its `max_tokens` is invalid:
            a bound on the answer must not be ignored.

        Examples
        --------
        >>> RoutingInfo.decode({"id": "a", "routing": {"partition": 0, "offset": 7}}).offset
        7
        """
        fields = message.get("routing") if isinstance(message, Mapping) else None
        if not isinstance(fields, Mapping):
            raise RoutingInfoError("routing", "is missing")
        partition, offset = _count(fields, "partition"), _count(fields, "offset")
        if partition is None or offset is None:
            raise RoutingInfoError("routing", "has no partition and offset")
        max_tokens = fields.get("max_tokens")
        if max_tokens is not None and (type(max_tokens) is not int or max_tokens <= 0):
            raise RoutingInfoError("routing.max_tokens", "is not a whole number above 0")
        attempt = fields.get("attempt", 1)
        if type(attempt) is not int or not 1 <= attempt <= MAX_ATTEMPT:
            raise RoutingInfoError("routing.attempt", f"is not a whole number from 1 to {MAX_ATTEMPT}")
        model = fields.get("model")
        return cls(
            _count(fields, "plan"),
            _count(fields, "period"),
            partition,
            _number(fields, "routed_at"),
            offset,
            _source(fields.get("source")),
            model if isinstance(model, str) else None,
            _number(fields, "quality"),
            _number(fields, "cost"),
            _number(fields, "price"),
            max_tokens,
            attempt,
            None if (tried := _texts(fields.get("tried"))) is None else tuple(tried),
            _texts(fields.get("exhausted")),
            _text_by_name(fields.get("excluded")),
            _number(fields, "probability"),
            reserve if isinstance(reserve := fields.get("reserve"), str) else None,
        )

    @classmethod
    def find(cls, message: object) -> RoutingInfo | None:
        """Read `routing` out of a decoded message; return None if it is missing or invalid."""
        try:
            return cls.decode(message)
        except RoutingInfoError:
            return None


def _count(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    return value if type(value) is int and value >= 0 else None


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else None


def _texts(value: object) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(part, str) for part in value) else None


def _text_by_name(value: object) -> dict[str, str] | None:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    return None


def _source(value: object) -> tuple[int, int] | None:
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(part) is int for part in value):
        return value[0], value[1]
    return None
