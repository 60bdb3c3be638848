"""Bills of periods in USD, by LLM."""

from __future__ import annotations

from typing import Any

from routing.budgets.money import to_usd
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.scanner import Scanner
from streams.ledger.overspending import overspending_of
from streams.ledger.period_messages import newest_periods
from streams.ledger.period_summary import PeriodSummary
from streams.operations.budget_bills import budget_bills


def read_periods(settings: Settings) -> list[PeriodSummary]:
    """Return the newest summary of each period, the oldest period first.

    Raises
    ------
    KafkaException, TimeoutError
        The topic cannot be read.
    """
    with Scanner(reader_config(settings)) as scanner:
        messages = scanner.read(scanner.places(settings.topics.periods))
        return list(newest_periods((message.key(), message.value()) for message in messages).values())


def bill_of(summary: PeriodSummary) -> dict[str, Any]:
    """Return the bill of a period as plain data; amounts are in USD.

    Returns
    -------
    dict
        `period`, `closed`, `settling` (it can still change), `queries` (arrived), `served`, `unserved`,
        `dead`, and `llms`: for each `name`, `budget`, `reserved` (in all), `settled` (really spent), `open`
        (reserved and not settled), `charged` (settled and open, which counts against the budget), `left`,
        `served`, `settlements`, `lapsed`. Of the amounts `total` has the sums. A budget that is not known any
        more is None, and so is what is left. `budgets` has the counters (`budget_bills`), `alerts` their
        events by name. `overspent` has the LLMs whose cost is above their budget, the worst first
        (`streams.ledger.overspending.Overspending.to_dict`).
    """
    llms = [_llm(summary, i) for i in range(len(summary.models))]
    known = summary.budgets is not None
    names = (
        ("budget", "reserved", "settled", "open", "charged", "left")
        if known
        else ("reserved", "settled", "open", "charged")
    )
    total: dict[str, Any] = {name: sum(llm[name] for llm in llms) for name in names}
    total |= {name: sum(llm[name] for llm in llms) for name in ("served", "settlements", "lapsed")}
    return {
        "period": summary.period,
        "closed": summary.closed,
        "settling": summary.settling,
        "queries": summary.arrived,
        "served": total["served"],
        "unserved": summary.unserved,
        "dead": summary.dead,
        "llms": llms,
        "total": {"budget": None, "left": None} | total,
        "budgets": budget_bills(summary),
        "alerts": summary.alerts,
        "overspent": [case.to_dict() for case in overspending_of(summary)],
    }


def _llm(summary: PeriodSummary, i: int) -> dict[str, Any]:
    budget = None if summary.budgets is None else summary.budgets[i]
    return {
        "name": summary.models[i],
        "budget": None if budget is None else _usd(budget),
        "reserved": _usd(summary.reserved[i]),
        "settled": _usd(summary.settled[i]),
        "open": _usd(summary.charged[i] - summary.settled[i]),
        "charged": _usd(summary.charged[i]),
        "left": None if budget is None else _usd(budget - summary.charged[i]),
        "served": summary.served[i],
        "settlements": summary.settlements[i],
        "lapsed": summary.lapsed[i],
    }


def _usd(pico: int) -> float:
    return float(to_usd(pico))
