"""Sample size of the linear program, and a warning for samples that are too small."""

from __future__ import annotations

import math

from routing.planning.schedule import PlanningSettings

SAMPLES_PER_LLM = 10
"""Samples that prices need for each LLM (measured: docs/decisions/032-few-samples-are-topped-up.md)."""


def sufficient_samples(models: int) -> int:
    """Return the number of sampled queries that are enough to price LLMs.

    Parameters
    ----------
    models : int
        M, the open LLMs.

    Examples
    --------
    >>> sufficient_samples(11)
    110
    """
    return SAMPLES_PER_LLM * models


def few_samples(settings: PlanningSettings, models: int) -> str | None:
    """Return a warning if the first eps N queries are too few to price the LLMs; None if they are enough.

    Parameters
    ----------
    settings : PlanningSettings
    models : int
        M, the open LLMs.

    Examples
    --------
    >>> print(few_samples(PlanningSettings(horizon=300, top_up_samples=False), 11))
    eps: 8 samples (0.025 of 300 queries) are too few to price 11 LLMs; 110 would do. Prices are solved on \
the samples alone: set eps to at least 0.367, or top_up_samples=true
    >>> few_samples(PlanningSettings(horizon=10_000), 11) is None
    True
    """
    if settings.resolve == "every" or (settings.warmup == "history" and settings.resolve == "once"):
        return None  # The history, or a window that its rows fill, gives the prices.
    samples, sufficient = settings.warmup_queries, sufficient_samples(models)
    if samples >= sufficient:
        return None
    problem = (
        f"eps: {samples} samples ({settings.eps:g} of {settings.horizon} queries) are too few to price "
        f"{models} LLMs; {sufficient} would do"
    )
    if sufficient <= settings.horizon:
        advice = f"set eps to at least {math.ceil(1000 * sufficient / settings.horizon) / 1000:g}"
    else:
        advice = "a period has fewer queries, so set warmup=history"
    if settings.top_up_samples:
        return f"{problem}. Rows of the history top them up; to learn from queries alone, {advice}"
    return f"{problem}. Prices are solved on the samples alone: {advice}, or top_up_samples=true"
