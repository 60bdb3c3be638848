"""What periods cost, by LLM, in USD: for those who answer for the bill."""

from __future__ import annotations

from typing import Any

from routing.money import to_usd
from streams.kafka import reader_config
from streams.periods import PeriodSummary, decode_period
from streams.scanning import Scanner
from streams.settings import Settings


def read_periods(settings: Settings) -> list[PeriodSummary]:
    """Every period that is on the topic of periods, the oldest first.

    Raises
    ------
    KafkaException, TimeoutError
        The topic cannot be read.
    """
    newest: dict[int, PeriodSummary] = {}
    with Scanner(reader_config(settings)) as scanner:
        for message in scanner.read(scanner.places(settings.topics.periods)):
            if (value := message.value()) is not None:
                summary = decode_period(value)
                newest[summary.period] = summary
    return [newest[period] for period in sorted(newest)]


def bill_of(summary: PeriodSummary) -> dict[str, Any]:
    """One period as plain data; amounts in USD.

    Returns
    -------
    dict
        `period`, `closed`, `settling` (it can still change), `queries` (arrived), `served`, `unserved`,
        `dead`, and `llms`: for each `name`, `budget`, `reserved` (in all), `settled` (really spent), `open`
        (reserved and not settled), `charged` (settled and open, which counts against the budget), `left`,
        `served`, `settlements`, `lapsed`. Of the amounts `total` has the sums. A budget that is not known any
        more is None, and so is what is left.
    """
    llms = [_llm(summary, i) for i in range(len(summary.models))]
    known = summary.budgets is not None
    names = ("budget", "reserved", "settled", "open", "charged", "left") if known else (
        "reserved", "settled", "open", "charged"
    )  # fmt: skip
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
