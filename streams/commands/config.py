"""`python -m streams config check|table`: effective settings with all mistakes, or all settings."""

from __future__ import annotations

import argparse
import dataclasses
import sys

import orjson

from streams.config.catalogue_file import (
    PREFIX,
)
from streams.config.setting_errors import allowed_values
from streams.config.settings import (
    Settings,
)
from streams.operations.console_table import table_lines
from streams.worker.preflight import ConfigReport, check_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "action",
        choices=["check", "table"],
        help="check: effective settings and mistakes; table: all settings as Markdown",
    )
    parser.add_argument("--offline", action="store_true", help="do not connect to the broker")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the report or the table; return 1 if there is a mistake."""
    if arguments.action == "table":
        print(settings_table())
        return 0
    report = check_config(connect=not arguments.offline)
    if arguments.json:
        fields = {
            "settings": [dataclasses.asdict(row) for row in report.effective],
            "mistakes": report.mistakes,
            "notes": report.notes,
        }
        print(orjson.dumps(fields, option=orjson.OPT_INDENT_2).decode())
    else:
        print_report(report)
    return 1 if report.mistakes else 0


def print_report(report: ConfigReport) -> None:
    """Print settings to standard output, and notes and mistakes to standard error."""
    rows = [(row.name, row.value, row.source) for row in report.effective]
    print("\n".join(table_lines(["", "", ""], rows, left=(0, 1, 2))))
    sys.stdout.flush()
    for text in report.notes:
        print(f"note: {text}", file=sys.stderr)
    for text in report.mistakes:
        print(f"mistake: {text}", file=sys.stderr)
    count = len(report.mistakes)
    print(f"{count} mistake{'s' * (count != 1)}" if count else "the settings are fine", file=sys.stderr)


def settings_table() -> str:
    """Return all settings as a Markdown table: variable, default, description."""
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    own = {name: field for name, field in Settings.model_fields.items() if name in Settings.__annotations__}
    for name, field in (own | Settings.model_fields).items():
        default = field.default
        text = str(default).lower() if isinstance(default, bool) else str(default)
        shown = "" if default is None or default == "" else f"`{text}`"
        values = ", ".join(f"`{value}`" for value in allowed_values(name))
        text = (field.description or "") + (f" One of {values}." if values else "")
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown} | {text} |")
    return "\n".join(lines)
