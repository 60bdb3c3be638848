"""`python -m streams shadow report`: a shadow's decisions beside those in force."""

from __future__ import annotations

import argparse

import orjson

from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.operations.shadow_report import shadow_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    report = parser.add_subparsers(dest="action", required=True).add_parser(
        "report", help="agreement, expected quality and spend of the shadow and of the router"
    )
    report.add_argument("--json", action="store_true", help="print all figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the report; return 1 if no query was decided by both."""
    settings = Settings()
    reach_broker(settings)
    report = shadow_report(settings)
    if arguments.json:
        print(orjson.dumps(report.to_dict(), option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(report.lines()))
    return 0 if report.compared else 1
