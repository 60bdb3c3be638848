"""`python -m streams worker`: one worker of the router."""

from __future__ import annotations

import argparse
import os

import structlog

from streams.config.log_setup import configure_logs
from streams.config.service_links import service_link_notes, without_service_links
from streams.config.setting_errors import unknown_variables
from streams.config.settings import Settings

log = structlog.get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a shadow; settings configure a worker."""
    parser.add_argument(
        "--shadow",
        action="store_true",
        help="decide queries by these settings without any effect; write the decisions to `router.shadow`",
    )
    parser.add_argument(
        "--from",
        dest="start",
        choices=("latest", "earliest"),
        default="latest",
        help="where a new shadow begins to read [%(default)s]",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; wait for an unreachable broker."""
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    for note in service_link_notes(os.environ):
        log.info("variables_ignored", note=note)
    for text, _ in unknown_variables(without_service_links(os.environ)):
        log.warning("variable_unknown", note=text)
    if arguments.shadow:
        from streams.worker import shadow

        return int(shadow.main(settings, arguments.start))
    from streams.worker.startup import main

    return int(main(settings) or 0)
