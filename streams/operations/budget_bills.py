"""Bills of budgets: each counter of a period, by LLM, as plain data, CSV and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from routing.budgets.money import to_usd
from streams.ledger.period_summary import CounterTotal, PeriodSummary
from streams.operations.console_table import table_lines

CSV_COLUMNS = (
    "period",
    "closed",
    "settling",
    "budget",
    "value",
    "unit",
    "limit",
    "charged",
    "left",
    "llm",
    "served",
    "reserved_usd",
    "settled_usd",
)
SHOWN_VALUES = 20
"""Values of a budget in a table, unless the budget was asked for."""


def budget_bills(summary: PeriodSummary) -> list[dict[str, Any]]:
    """Return the counters of a period as plain data; `charged`, `limit` and `left` are in the unit.

    Parameters
    ----------
    summary : PeriodSummary

    Returns
    -------
    list of dict
        `budget`, `value` (None without `group_by`), `unit`, `limit` and `left` (None if unknown), `charged`,
        and `llms`: for each `name`, queries `served`, and USD `reserved` and `settled`.
    """
    counters = summary.counters or _of_llms(summary)
    return [
        {
            "budget": one.budget,
            "value": one.value,
            "unit": one.unit,
            "limit": None if one.limit is None else _amount(one.limit, one.unit),
            "charged": _amount(one.charged, one.unit),
            "left": None if one.limit is None else _amount(one.limit - one.charged, one.unit),
            "llms": [
                {
                    "name": name,
                    "served": served,
                    "reserved": float(to_usd(reserved)),
                    "settled": float(to_usd(settled)),
                }
                for name, (served, reserved, settled) in one.by_llm.items()
            ],
        }
        for one in counters
    ]


def select_budgets(
    bills: Sequence[dict[str, Any]], budget: str, value: str | None = None
) -> list[dict[str, Any]]:
    """Return the bills with the counters of one budget, or one of its values; bills without it are dropped.

    Parameters
    ----------
    bills : sequence of dict
        As `bill_of` returns them.
    budget : str
    value : str, optional
        Value of `group_by`.
    """
    selected = []
    for bill in bills:
        counters = [
            one
            for one in bill["budgets"]
            if one["budget"] == budget and (value is None or one["value"] == value)
        ]
        if counters:
            selected.append({**bill, "budgets": counters})
    return selected


def bills_csv(bills: Sequence[Mapping[str, Any]]) -> str:
    """Return bills as CSV: for each counter, a line with its sums (LLM "all"), then a line for each LLM.

    Parameters
    ----------
    bills : sequence of mapping
        As `bill_of` returns them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for bill in bills:
        state = [bill["period"], str(bill["closed"]).lower(), str(bill["settling"]).lower()]
        for one in bill["budgets"]:
            name = [one["budget"], one["value"], one["unit"]]
            sums = [sum(llm[key] for llm in one["llms"]) for key in ("served", "reserved", "settled")]
            writer.writerow([*state, *name, one["limit"], one["charged"], one["left"], "all", *sums])
            for llm in one["llms"]:
                writer.writerow(
                    [
                        *state,
                        *name,
                        None,
                        None,
                        None,
                        llm["name"],
                        llm["served"],
                        llm["reserved"],
                        llm["settled"],
                    ]
                )
    return text.getvalue()


def budget_table(counters: Sequence[Mapping[str, Any]], *, by_llm: bool) -> list[str]:
    """Return counters as a table.

    Parameters
    ----------
    counters : sequence of mapping
        As `budget_bills` returns them.
    by_llm : bool
        Show all values and their LLMs. Without it, a budget shows the values that drew most.
    """
    rows: list[list[str]] = []
    for budget in dict.fromkeys(one["budget"] for one in counters):
        of_budget = [one for one in counters if one["budget"] == budget]
        of_budget.sort(key=lambda one: -one["charged"])
        shown = of_budget if by_llm else of_budget[:SHOWN_VALUES]
        for one in shown:
            name = budget if one["value"] is None else f"{budget}={one['value']}"
            amounts = [_shown(one[key], one["unit"]) for key in ("limit", "charged", "left")]
            served = sum(llm["served"] for llm in one["llms"])
            rows.append([name, one["unit"], *amounts, str(served), ""])
            for llm in one["llms"] if by_llm else ():
                settled = _shown(llm["settled"], "usd")
                rows.append([f"  {llm['name']}", "", "", "", "", str(llm["served"]), settled])
        if len(of_budget) > len(shown):
            rows.append([f"{budget}: {len(of_budget) - len(shown)} more values", *[""] * 6])
    headers = ["budget", "unit", "limit", "charged", "left", "served", "settled USD"]
    if not by_llm:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return table_lines(headers, rows)


def _of_llms(summary: PeriodSummary) -> list[CounterTotal]:
    """Return one counter for each LLM, of a period with one budget per LLM."""
    return [
        CounterTotal(
            name,
            None,
            "usd",
            summary.charged[i],
            {name: [summary.served[i], summary.reserved[i], summary.settled[i]]},
            None if summary.budgets is None else summary.budgets[i],
        )
        for i, name in enumerate(summary.models)
    ]


def _amount(amount: int, unit: str) -> float | int:
    return float(to_usd(amount)) if unit == "usd" else amount


def _shown(amount: float | None, unit: str) -> str:
    if amount is None:
        return "unknown"
    if unit != "usd":
        return str(amount)
    return f"{amount:.2f}" if abs(amount) >= 1000 else f"{amount:.6f}"
