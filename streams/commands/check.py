"""`python -m streams check`: reads every topic and says whether the invariants hold."""

from __future__ import annotations

import argparse

import orjson

from streams.checker import check
from streams.checks.logs import KafkaLogs
from streams.kafka import reach_broker, reader_config
from streams.logs import configure_logs
from streams.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command can be told."""
    parser.add_argument(
        "--complete",
        action="store_true",
        help="nothing is to come: a query that waits is missing, a bill that is behind is wrong",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Prints the verdict; 1 when an invariant is broken."""
    settings = Settings()
    configure_logs("warning", settings.log_format)
    reach_broker(settings)
    with KafkaLogs(reader_config(settings, f"{settings.app_id}-check")) as logs:
        verdict = check(logs, settings.topics, complete=arguments.complete)
    if arguments.json:
        print(orjson.dumps(verdict.to_dict(), option=orjson.OPT_INDENT_2).decode())
    else:
        print(verdict.text())
    return 0 if verdict.fine else 1
