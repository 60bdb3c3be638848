"""`python -m streams worker`: runs one worker of the router until it is told to stop."""

from __future__ import annotations

import argparse

from streams.logs import configure_logs
from streams.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A worker is told everything by settings."""


def run(arguments: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT; a broker that is away is waited for."""
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    from streams.starting import main

    return int(main(settings) or 0)
