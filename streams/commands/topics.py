"""`python -m streams topics create|list`: the topics as they must be, and as they are."""

from __future__ import annotations

import argparse
import sys

from streams.kafka import reach_broker
from streams.logs import configure_logs
from streams.settings import Settings
from streams.topics import (
    create_topics,
    existing_partitions,
    led_by_nobody,
    mismatches,
    topic_specs,
    without_leader,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command can be told."""
    parser.add_argument("action", choices=["create", "list"])


def run(arguments: argparse.Namespace) -> int:
    """Creates or lists; 1 when a topic is not as it must be."""
    settings = Settings()
    configure_logs("warning", settings.log_format)
    specs = topic_specs(settings, settings.read_catalogue())
    admin = reach_broker(settings)
    if arguments.action == "create":
        for name, created in create_topics(admin, specs, settings.replication_factor).items():
            print(f"{'created' if created else 'exists':<8} {name}")
        return 0
    existing = existing_partitions(admin)
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        state = f"{existing[spec.name]} partitions" if spec.name in existing else "missing"
        kept = "compacted" if spec.compacted else ""
        print(f"{spec.name:<{width}}  {state:<14} {kept}".rstrip())
    problems = mismatches(specs, existing)
    problems += led_by_nobody(without_leader(admin, [spec.name for spec in specs]))
    for text in problems:
        print(f"error: {text}", file=sys.stderr)
    return 1 if problems or any(spec.name not in existing for spec in specs) else 0
