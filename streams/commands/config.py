"""`python -m streams config check|table`: the effective settings with every mistake, and what there is."""

from __future__ import annotations

import argparse
import dataclasses
import sys

import orjson

from streams.config_check import Report, check_config
from streams.mistakes import choices
from streams.settings import PREFIX, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command can be told."""
    parser.add_argument(
        "action",
        choices=["check", "table"],
        help="what is in force, or a table of what there is (Markdown)",
    )
    parser.add_argument("--offline", action="store_true", help="do not ask the broker")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Prints; 1 when there is a mistake."""
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


def print_report(report: Report) -> None:
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


def settings_table() -> str:
    """All settings as a table of Markdown: variable, default, what it is."""
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        text = str(default).lower() if isinstance(default, bool) else str(default)
        shown = "" if default is None or default == "" else f"`{text}`"
        values = ", ".join(f"`{value}`" for value in choices(name))
        text = (field.description or "") + (f" One of {values}." if values else "")
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown} | {text} |")
    return "\n".join(lines)
