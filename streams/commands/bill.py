"""`python -m streams bill`: what each period cost, by LLM."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import orjson

from routing.arguments import count
from streams.billing import bill_of, read_periods
from streams.kafka import reach_broker
from streams.settings import Settings

AMOUNTS = ("budget", "reserved", "settled", "open", "left")
COUNTS = ("served", "settlements", "lapsed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command can be told."""
    parser.add_argument("--period", type=count, metavar="N", help="only this one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Prints; 1 when there is no such period."""
    settings = Settings()
    reach_broker(settings)
    bills = [bill_of(summary) for summary in read_periods(settings)]
    if arguments.period is not None:
        bills = [bill for bill in bills if bill["period"] == arguments.period]
    if arguments.json:
        print(orjson.dumps(bills, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n\n".join(table(bill) for bill in bills))
    if not bills:
        which = "no period" if arguments.period is None else f"no period {arguments.period}"
        print(f"{which} is on {settings.topics.periods}; a worker writes them", file=sys.stderr)
        return 1
    return 0


def table(bill: dict[str, Any]) -> str:
    """One period for people; USD."""
    state = "current" if not bill["closed"] else "closed, outcomes may come" if bill["settling"] else "closed"
    lines = [
        f"period {bill['period']} ({state}): {bill['queries']} queries, {bill['served']} served, "
        f"{bill['unserved']} unserved, {bill['dead']} dead letters"
    ]
    rows = [*bill["llms"], {"name": "all", **bill["total"]}]
    width = max(len(row["name"]) for row in rows)
    heads = "".join(f"{name:>15}" for name in AMOUNTS) + "".join(f"{name:>12}" for name in COUNTS)
    lines.append(f"{'USD':<{width}}{heads}")
    for row in rows:
        amounts = "".join(f"{_amount(row[name]):>15}" for name in AMOUNTS)
        lines.append(f"{row['name']:<{width}}{amounts}" + "".join(f"{row[name]:>12}" for name in COUNTS))
    return "\n".join(lines)


def _amount(usd: float | None) -> str:
    if usd is None:
        return "unknown"
    return f"{usd:.2f}" if abs(usd) >= 1000 else f"{usd:.6f}"
