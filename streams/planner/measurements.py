"""Measured quality and cost of LLMs that the history does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routing.budgets.model import Model
from routing.budgets.money import PICO
from streams.ledger.record import LedgerRecord
from streams.ledger.reported_quality import ReportedQuality

TYPICAL_PROMPT_TOKENS, TYPICAL_ANSWER_TOKENS = 500, 300
"""Tokens of a typical query, to estimate its cost on an LLM that has answered none."""

UNLISTED_QUERY_USD = 0.01
"""Assumed cost of a query on an LLM without a list price."""


def measure_unknown_models(
    names: Sequence[str], models: Mapping[str, Model], ledgers: Mapping[int, LedgerRecord]
) -> dict[str, list[float]]:
    """Return the number of answers with a quality, their mean quality and the mean cost of each LLM.

    Parameters
    ----------
    names : sequence of str
        LLMs without a history.
    models : mapping
        The catalogue by name.
    ledgers : mapping of int to LedgerRecord
        Of all lanes.

    Returns
    -------
    dict of str to list
        As `Plan.measured`. The mean cost is in USD per query.
    """
    measured: dict[str, list[float]] = {}
    for name in names:
        reported, cost, settlements = ReportedQuality(), 0.0, 0.0
        for ledger in ledgers.values():
            reported += ledger.reported.get(name, ReportedQuality())
            if name in ledger.models:
                i = ledger.models.index(name)
                for account in (ledger.account, ledger.closed):
                    if account is not None and i < len(account.settled):
                        cost += float(account.settled[i]) / PICO
                        settlements += float(account.settlements[i])
        answers = float(reported.count)
        # recent settlements; after a pause of two periods, all outcomes with a quality; else the list price
        if settlements:
            mean_cost = cost / settlements
        else:
            mean_cost = reported.cost / answers if answers else list_cost(models.get(name))
        measured[name] = [answers, reported.quality / answers if answers else 0.0, mean_cost]
    return measured


def list_cost(model: Model | None) -> float:
    """Return the cost of a typical query at list price, in USD."""
    if model is None or model.input_price is None or model.output_price is None:
        return UNLISTED_QUERY_USD
    prompt, answer = TYPICAL_PROMPT_TOKENS * model.input_price, TYPICAL_ANSWER_TOKENS * model.output_price
    return (prompt + answer) / 1e6
