"""Record of a decision, with the scores of all LLMs, on `router.decisions` and `router.shadow`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from streams.messages.unserved import UnservedReason


@dataclass(frozen=True)
class DecisionRecord:
    """A decision about one query; lists are by LLM, of length M.

    Parameters
    ----------
    id : str
        Of the query.
    partition, offset : int
        Lane, and offset of the query in the lane's input, as in `routing`.
    source : (int, int) or None
        Partition and offset in `queries`, if the overflow lane decided the query.
    attempt : int
        Number of the decision about the query.
    plan, period : int
        Version of the plan, and number of the budget period.
    decided_at : float
        Seconds since the epoch.
    model : str or None
        None for an unserved query.
    reason : UnservedReason or None
    probability : float
        Of this decision.
    weight : float
        Factor of the query's quality.
    models : list of str
    quality, cost, reserved : list of float
        Estimated quality, estimated USD, and USD that the query would reserve.
    price, score : list of float or None
        Quality that the LLM has to be worth, and weight times quality less the price; None for an LLM that is
        not chosen by its score.
    eligible : list of bool
        Whether the LLM may answer.
    """

    id: str
    partition: int
    offset: int
    source: tuple[int, int] | None
    attempt: int
    plan: int
    period: int
    decided_at: float
    model: str | None
    reason: UnservedReason | None
    probability: float
    weight: float
    models: list[str]
    quality: list[float]
    cost: list[float]
    reserved: list[float]
    price: list[float | None]
    score: list[float | None]
    eligible: list[bool]

    def encode(self) -> bytes:
        """Return the record as JSON. NaN and infinity become null."""
        fields = dict(self.__dict__)
        for optional in ("source", "reason"):
            if fields[optional] is None:
                del fields[optional]
        return orjson.dumps(fields)


def decode_decision(value: bytes | None) -> dict[str, Any] | None:
    """Return the fields of a record that the router wrote; None for anything else.

    Examples
    --------
    >>> decode_decision(b'{"id": "a"}') is None
    True
    """
    try:
        fields = orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        return None
    needed = {"id", "partition", "offset", "attempt", "probability", "models", "quality", "cost"}
    return fields if isinstance(fields, dict) and needed <= fields.keys() else None
