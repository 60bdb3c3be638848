"""What outcomes say of LLMs that no history covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routing.catalogue import Model
from streams.ledger import LedgerRecord

PROMPT_TOKENS, ANSWER_TOKENS = 500, 300
"""A typical query, for the cost of an LLM of which nothing is known but its list price."""


def measured(
    names: Sequence[str], models: Mapping[str, Model], ledgers: Mapping[int, LedgerRecord]
) -> dict[str, list[float]]:
    """Answers with a quality, their mean quality and mean cost (USD a query) of each LLM.

    Parameters
    ----------
    names : sequence of str
        LLMs without a history.
    models : mapping
        The catalogue by name.
    ledgers : mapping of int to LedgerRecord
        All lanes'.

    Returns
    -------
    dict of str to list
        As `Plan.measured`.
    """
    found = {}
    for name in names:
        answers = quality = cost = settled = 0.0
        for ledger in ledgers.values():
            if (sums := ledger.reported.get(name)) is not None:
                answers, quality = answers + sums[0], quality + sums[1]
            if name in ledger.models:
                i = ledger.models.index(name)
                for account in (ledger.account, ledger.closed):
                    if account is not None and i < len(account.settled):
                        cost += float(account.settled[i]) / 1e12
                        settled += float(account.settlements[i])
        mean = cost / settled if settled else list_cost(models.get(name))
        found[name] = [answers, quality / answers if answers else 0.0, mean]
    return found


def list_cost(model: Model | None) -> float:
    """USD of a typical query at list price; 0.01 USD where there is none."""
    if model is None or model.input_price is None or model.output_price is None:
        return 0.01
    return (PROMPT_TOKENS * model.input_price + ANSWER_TOKENS * model.output_price) / 1e6
