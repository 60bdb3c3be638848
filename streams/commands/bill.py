"""`python -m streams bill`: the bill of each period, by LLM and by budget."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import orjson

from routing.arguments import positive_int
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.operations.budget_bills import bills_csv, budget_table, select_budgets
from streams.operations.console_table import table_lines
from streams.operations.period_bills import bill_of, read_periods

AMOUNTS = ("budget", "reserved", "settled", "open", "left")
COUNTS = ("served", "settlements", "lapsed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--period", type=positive_int, metavar="N", help="only this period")
    parser.add_argument("--budget", metavar="NAME", help="only this budget, by value and LLM")
    parser.add_argument("--value", metavar="VALUE", help="only this value of the budget's `group_by`")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of tables")
    form.add_argument("--csv", action="store_true", help="print the budgets by value and LLM as CSV")


def run(arguments: argparse.Namespace) -> int:
    """Print the bills; return 1 if there is no such period or budget.

    Raises
    ------
    ValueError
        A value without its budget.
    """
    if arguments.value is not None and arguments.budget is None:
        raise ValueError("--value: names a value of a budget; add --budget NAME")
    settings = Settings()
    reach_broker(settings)
    bills = [bill_of(summary) for summary in read_periods(settings)]
    if arguments.period is not None:
        bills = [bill for bill in bills if bill["period"] == arguments.period]
    all_bills = bills
    if arguments.budget is not None:
        bills = select_budgets(all_bills, arguments.budget, arguments.value)
    if arguments.csv:
        print(bills_csv(bills), end="")
    elif arguments.json:
        print(orjson.dumps(bills, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n\n".join(table(bill, of_budget=arguments.budget is not None) for bill in bills))
    if all_bills and not bills:
        names = dict.fromkeys(one["budget"] for bill in all_bills for one in bill["budgets"])
        value = "" if arguments.value is None else f" with the value {arguments.value!r}"
        print(
            f"no bill has a budget {arguments.budget!r}{value}; budgets are {', '.join(names)}",
            file=sys.stderr,
        )
        return 1
    if not bills:
        missing = "no period" if arguments.period is None else f"no period {arguments.period}"
        print(f"{missing} is on {settings.topics.periods}; a worker writes them", file=sys.stderr)
        return 1
    return 0


def table(bill: dict[str, Any], *, of_budget: bool = False) -> str:
    """Return the bill of one period as text; amounts are in USD, or in the unit of a budget.

    Parameters
    ----------
    bill : dict
        As `bill_of` returns it.
    of_budget : bool
        Show only its budgets, by LLM.
    """
    state = "current" if not bill["closed"] else "closed, outcomes may come" if bill["settling"] else "closed"
    lines = [
        f"period {bill['period']} ({state}): {bill['queries']} queries, {bill['served']} served, "
        f"{bill['unserved']} unserved, {bill['dead']} dead letters"
    ]
    if of_budget:
        return "\n".join([*lines, *budget_table(bill["budgets"], by_llm=True)])
    is_shared = bool(bill["budgets"]) and [one["budget"] for one in bill["budgets"]] != [
        llm["name"] for llm in bill["llms"]
    ]
    shown = AMOUNTS[1:-1] if is_shared else AMOUNTS
    rows = [*bill["llms"], {"name": "all", **bill["total"]}]
    lines += table_lines(
        ["USD", *shown, *COUNTS],
        [
            [row["name"], *(_amount(row[name]) for name in shown), *(row[name] for name in COUNTS)]
            for row in rows
        ],
    )
    if is_shared:
        lines += ["", *budget_table(bill["budgets"], by_llm=False)]
    lines += [f"OVERSPENT: {case['text']}" for case in bill["overspent"]]
    return "\n".join(lines)


def _amount(usd: float | None) -> str:
    if usd is None:
        return "unknown"
    return f"{usd:.2f}" if abs(usd) >= 1000 else f"{usd:.6f}"
