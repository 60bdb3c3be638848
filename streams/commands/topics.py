"""`python -m streams topics create|list|forward`: creation and state of the topics, added partitions."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable

import structlog

from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.kafka.strimzi import to_yaml, topic_resource
from streams.kafka.topics import (
    added_partitions,
    count_leaderless,
    create_topics,
    existing_partitions,
    leaderless_problems,
    partition_mismatches,
    topic_specs,
)
from streams.operations.console_table import table_lines
from streams.operations.partition_forwarding import ForwardResult, PartitionForwarder
from streams.planner.plan_reader import plan_in_force

log = structlog.get_logger(__name__)

PROGRESS_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `create`, `list` and `forward`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("create", help="create missing topics, and set what the router needs of them")
    listing = actions.add_parser("list", help="list the topics and their partitions")
    listing.add_argument(
        "--format",
        choices=("table", "strimzi"),
        default="table",
        help="a table, or KafkaTopic resources of the Strimzi operator, without a request to the broker "
        "[%(default)s]",
    )
    forward = actions.add_parser(
        "forward", help="forward queries from added partitions to the router's own, each exactly once"
    )
    forward.add_argument("--follow", action="store_true", help="continue until stopped")


def run(arguments: argparse.Namespace) -> int:
    """Run the sub-command; return 1 when a topic is not as it must be."""
    settings = Settings()
    following = arguments.action == "forward" and arguments.follow
    configure_logs(settings.log_level if following else "warning", settings.log_format)
    if arguments.action == "forward":
        return run_forward(settings, arguments.follow)
    specs = topic_specs(settings, settings.read_catalogue())
    if arguments.action == "list" and arguments.format == "strimzi":
        print(to_yaml([topic_resource(spec, settings.replication_factor) for spec in specs]), end="")
        return 0
    admin = reach_broker(settings)
    if arguments.action == "create":
        for name, created in create_topics(admin, specs, settings.replication_factor).items():
            print(f"{'created' if created else 'exists':<8} {name}")
        for text in added_partitions(specs, existing_partitions(admin)):
            print(f"warning: {text}", file=sys.stderr)
        return 0
    existing = existing_partitions(admin)
    rows = [
        (
            spec.name,
            f"{existing[spec.name]} partitions" if spec.name in existing else "missing",
            "compacted" if spec.compacted else "",
        )
        for spec in specs
    ]
    print("\n".join(table_lines(["", "", ""], rows, left=(0, 1, 2))))
    for text in added_partitions(specs, existing):
        print(f"warning: {text}", file=sys.stderr)
    problems = partition_mismatches(specs, existing)
    problems += leaderless_problems(count_leaderless(admin, [spec.name for spec in specs]))
    for text in problems:
        print(f"error: {text}", file=sys.stderr)
    return 1 if problems or any(spec.name not in existing for spec in specs) else 0


# ---- forward ---------------------------------------------------------------------------------------------


def run_forward(settings: Settings, follow: bool) -> int:
    """Forward queries from added partitions; return 1 when records were deleted before that.

    Raises
    ------
    ValueError
        There is no plan, so the number of the router's partitions is unknown.
    """
    topic = settings.topics.queries
    if topic not in existing_partitions(reach_broker(settings)):
        raise ValueError(f"topic {topic}: is missing; set PORT_TOPIC_PREFIX to the router's")
    plan = plan_in_force(settings)
    if plan is None:
        raise ValueError(
            f"{settings.topics.plans}: has no plan, so the router has no partitions yet; set PORT_PARTITIONS "
            "to the partitions of the topic and start a worker"
        )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    progress: Callable[[ForwardResult], None] = _Progress(topic) if follow else lambda result: None
    result = PartitionForwarder(settings, plan.lanes - plan.overflow, stop, progress).run(follow)
    print(forward_summary(topic, result))
    return 1 if result.deleted else 0


def forward_summary(topic: str, result: ForwardResult) -> str:
    """Return the counts of a run as a line."""
    if not result.partitions:
        return f"{topic} has no added partitions: nothing to forward"
    parts = [
        f"{result.forwarded} queries forwarded from {len(result.partitions)} added partitions of {topic}"
    ]
    if result.deleted:
        parts.append(f"{result.deleted} offsets were deleted before that")
    if result.without_headers:
        parts.append(f"{result.without_headers} without their headers, which have names that are not UTF-8")
    return "; ".join(parts)


class _Progress:
    """Logs the number of forwarded queries, at first and at intervals."""

    def __init__(self, topic: str) -> None:
        self._topic, self._logged_at = topic, 0.0

    def __call__(self, result: ForwardResult) -> None:
        now = time.monotonic()
        if now - self._logged_at > PROGRESS_SECONDS:
            self._logged_at = now
            log.info("queries_forwarded", topic=self._topic, total=result.forwarded)
