"""Reservations at a quantile of the cost: learned from the history, corrected by outcomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from routing.arrays import FloatArray

STEP = 0.05
"""Change of the logarithm of a reservation for each answer above the share that is allowed to exceed it."""

MAX_ANSWERS_PER_STEP = 5
"""Weight of one update in answers: those of many answers at once were reserved before the last update."""

MAX_OFFSET = 3.0
"""Largest correction of the logarithm of a reservation, either way: a factor of 20."""

LIMIT_FACTOR = 2.0
"""Cost at which an answer ends, as a multiple of its reservation."""

MIN_ANSWER_TOKENS = 16
"""Tokens that every answer may have, however little was reserved."""

DIGITS = 6
"""Decimal places of the numbers in a plan."""

Offsets = dict[str, list[float]]
"""By LLM: the quantile's level, the correction of the logarithm of reservations, and the answers and those
above their reservations that all ledgers had when the correction was last brought up to date."""


def quantile_level(reserve: str) -> float | None:
    """Return the level of a setting such as `p95`; None for `estimate` and `bound`.

    Examples
    --------
    >>> quantile_level("p95"), quantile_level("p99.5"), quantile_level("bound")
    (0.95, 0.995, None)
    """
    return round(float(reserve[1:]) / 100, 9) if reserve[:1] == "p" else None


@dataclass(frozen=True)
class CostQuantile:
    """A quantile of the true cost over the estimated one, by LLM.

    Parameters
    ----------
    level : float
        Between 0 and 1.
    ratios : mapping of str to float
        By LLM of the history.
    largest : mapping of str to float
        USD of the dearest answer of each LLM of the history.

    Examples
    --------
    >>> estimated, actual = np.ones((4, 1)), np.array([[0.5], [1.0], [1.5], [3.0]])
    >>> CostQuantile.fit(0.75, ("a",), estimated, actual).factors(("a", "new"), {}).tolist()
    [3.0, 3.0]
    """

    level: float
    ratios: Mapping[str, float]
    largest: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, level: float, models: Sequence[str], estimated: FloatArray, actual: FloatArray
    ) -> CostQuantile:
        """Return the quantiles of a history.

        The rank is that of split conformal prediction: the least ratio that covers a new row with at least
        this probability, if rows are exchangeable (Vovk, Gammerman and Shafer, 2005).

        Parameters
        ----------
        level : float
        models : sequence of str, length M
        estimated : ndarray of float64, shape [H, M]
            Leave-one-out estimates in USD. Rows without a positive estimate are left out.
        actual : ndarray of float64, shape [H, M]
            USD.
        """
        ratios = {}
        for i, name in enumerate(models):
            known = estimated[:, i] > 0
            ratio = np.sort(actual[known, i] / estimated[known, i])
            if len(ratio):
                rank = min(math.ceil(level * (len(ratio) + 1)), len(ratio))
                ratios[name] = float(ratio[rank - 1])
        return cls(level, ratios, dict(zip(models, actual.max(0, initial=0.0).tolist(), strict=True)))

    def factors(self, models: Sequence[str], offsets: Offsets) -> FloatArray:
        """Return the reservation over the estimated cost, [M]; LLMs without a history have the median ratio.

        Parameters
        ----------
        models : sequence of str, length M
        offsets : dict
            Of the plan. Those of another level are ignored.
        """
        other = float(np.median(list(self.ratios.values()))) if self.ratios else 1.0
        factors = [
            self.ratios.get(name, other) * math.exp(offset_of(offsets, name, self.level)) for name in models
        ]
        return np.array(factors, dtype=np.float64)

    def answer_limit(self, name: str, usd: float, output_price: float | None) -> int | None:
        """Return the answer tokens at which a query ends, so that it cannot cost much more than reserved.

        They cost `LIMIT_FACTOR` times the reservation. A limit that exceeds what an LLM can answer makes
        endpoints refuse the request. So no limit costs more than the dearest answer of the history, unless
        the reservation does.

        Parameters
        ----------
        name : str
            The LLM.
        usd : float
            The reservation.
        output_price : float or None
            USD per million tokens. Without a price there is no limit.

        Examples
        --------
        >>> quantile = CostQuantile(0.95, {"a": 1.2}, {"a": 0.003})
        >>> [quantile.answer_limit("a", usd, 1.0) for usd in (0.000001, 0.001, 0.002, 0.004)]
        [16, 2000, 3000, 4000]
        """
        if not output_price or usd <= 0:
            return None
        limit = max(usd, min(LIMIT_FACTOR * usd, self.largest.get(name, math.inf)))
        # rounded: USD have been read back from decimals
        return max(MIN_ANSWER_TOKENS, math.floor(round(1e6 * limit / output_price, 6)))


def offset_of(offsets: Offsets, name: str, level: float) -> float:
    """Return the correction of an LLM's reservations; 0 if it is unknown or of another level."""
    last_level, offset, *_ = offsets.get(name, (level, 0.0))
    return offset if last_level == level else 0.0


def follow(offset: float, level: float, answers: float, above: float) -> float:
    """Return the correction after more answers, of which some cost more than was reserved.

    It rises if more than a share of 1 - level exceeds the reservation, and falls otherwise, so that this
    share is reached in the long run, however costs change (quantile tracking; Angelopoulos, Candes and
    Tibshirani, 2023).

    Examples
    --------
    >>> round(follow(0.0, 0.95, 1, 1), 4), round(follow(0.0, 0.95, 1, 0), 4)
    (0.0475, -0.0025)
    """
    if answers <= 0:
        return offset
    weight = min(answers, MAX_ANSWERS_PER_STEP)
    offset += STEP * weight * (above / answers - (1 - level))
    return float(np.clip(offset, -MAX_OFFSET, MAX_OFFSET))


def absorb_answers(offsets: Offsets, level: float, totals: Mapping[str, Sequence[float]]) -> Offsets:
    """Return the corrections after the answers that were counted since.

    Parameters
    ----------
    offsets : dict
    level : float
        Corrections of another level begin again.
    totals : mapping of str to (float, float)
        By LLM: answers, and answers above their reservations, of all ledgers. Totals below those of the
        offsets are taken over without effect: the ledgers' topic was created again.

    Examples
    --------
    >>> offsets = absorb_answers({}, 0.95, {"a": (0, 0)})
    >>> absorb_answers(offsets, 0.95, {"a": (20, 20)})
    {'a': [0.95, 0.2375, 20, 20]}
    """
    after = dict(offsets)
    for name, (answers, above) in totals.items():
        last_level, offset, last_answers, last_above = offsets.get(name, [level, 0.0, answers, above])
        if last_level != level:
            last_level, offset, last_answers, last_above = level, 0.0, answers, above
        new, new_above = answers - last_answers, above - last_above
        if new >= 0 and 0 <= new_above <= new:
            offset = round(follow(offset, level, new, new_above), DIGITS)
        after[name] = [level, offset, answers, above]
    return after
