"""`python -m streams config check`: the effective settings and every mistake in them."""

from __future__ import annotations

import argparse
import dataclasses
import sys

import orjson

from streams.config_check import Report, check_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command can be told."""
    parser.add_argument("action", choices=["check"])
    parser.add_argument("--offline", action="store_true", help="do not ask the broker")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Prints; 1 when there is a mistake."""
    report = check_config(connect=not arguments.offline)
    if arguments.json:
        fields = {
            "settings": [dataclasses.asdict(row) for row in report.effective],
            "mistakes": report.mistakes,
            "notes": report.notes,
        }
        print(orjson.dumps(fields, option=orjson.OPT_INDENT_2).decode())
    else:
        print_table(report)
    return 1 if report.mistakes else 0


def print_table(report: Report) -> None:
    """For people: settings to standard output, mistakes to standard error."""
    names = max(len(row.name) for row in report.effective)
    values = min(44, max(len(row.value) for row in report.effective))
    for row in report.effective:
        print(f"{row.name:<{names}}  {row.value:<{values}}  {row.source}")
    sys.stdout.flush()
    for text in report.notes:
        print(f"note: {text}", file=sys.stderr)
    for text in report.mistakes:
        print(f"mistake: {text}", file=sys.stderr)
    count = len(report.mistakes)
    print(f"{count} mistake{'s' * (count != 1)}" if count else "the settings are fine", file=sys.stderr)
