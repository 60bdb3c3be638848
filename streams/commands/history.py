"""`python -m streams history export`: write answered queries with their quality, to grow the history by."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from streams.commands.lines_file import write_lines
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.operations.answered_queries import answered_queries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    export = parser.add_subparsers(dest="action", required=True).add_parser(
        "export", help="write answered queries for `python -m routing history extend`"
    )
    export.add_argument("--out", required=True, type=Path, metavar="JSONL", help="file to write")


def run(arguments: argparse.Namespace) -> int:
    """Write the file; return 1 if no outcome reports a quality."""
    settings = Settings()
    reach_broker(settings)
    count = write_lines(arguments.out, answered_queries(settings))
    print(f"{count} answered queries with a quality: {arguments.out}")
    if not count:
        print(f"no outcome on {settings.topics.outcomes} reports the quality of a query", file=sys.stderr)
        return 1
    return 0
