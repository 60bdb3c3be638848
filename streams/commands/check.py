"""`python -m streams check`: audit of all topics."""

from __future__ import annotations

import argparse

import orjson

from streams.audit.check import check
from streams.audit.topic_records import KafkaTopicSource
from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker, reader_config
from streams.kafka.scanner import Scanner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--complete",
        action="store_true",
        help="no more records will come: report waiting queries as missing, outdated bills as wrong",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; return 1 if an invariant is broken."""
    settings = Settings()
    configure_logs("warning", settings.log_format)
    reach_broker(settings)
    with Scanner(reader_config(settings, f"{settings.app_id}-check")) as scanner:
        source = KafkaTopicSource(scanner, settings.app_id)
        findings = check(source, settings.topics, complete=arguments.complete)
    if arguments.json:
        print(orjson.dumps(findings.to_dict(), option=orjson.OPT_INDENT_2).decode())
    else:
        print(findings.text())
    return 0 if findings.fine else 1
