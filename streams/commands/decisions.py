"""`python -m streams decisions export`: write logged decisions with reported quality."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from streams.commands.lines_file import write_lines
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.operations.answered_queries import graded_decisions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    export = parser.add_subparsers(dest="action", required=True).add_parser(
        "export", help="write decisions for `python -m experiments off-policy --decisions`"
    )
    export.add_argument("--out", required=True, type=Path, metavar="JSONL", help="file to write")


def run(arguments: argparse.Namespace) -> int:
    """Write the file; return 1 if there is no decision with a reported quality."""
    settings = Settings()
    reach_broker(settings)
    count = write_lines(arguments.out, graded_decisions(settings))
    print(f"{count} decisions with a reported quality: {arguments.out}")
    if not count:
        hint = "set PORT_DECISION_LOG=true, and send `quality` with outcomes"
        print(
            f"no decision on {settings.topics.decisions} has an outcome with a quality; {hint}",
            file=sys.stderr,
        )
        return 1
    return 0
