"""`python -m streams acls ROLE --user NAME`: what a role must be granted, as arguments of kafka-acls.sh."""

from __future__ import annotations

import argparse

from streams.permissions import ROLES, grants
from streams.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command can be told."""
    told = "; ".join(f"{name} {text}" for name, text in ROLES.items())
    parser.add_argument("role", choices=list(ROLES), help=told)
    parser.add_argument("--user", metavar="NAME", help="principal, without `User:` [the role's name]")


def run(arguments: argparse.Namespace) -> int:
    """Prints a line a grant; nothing is asked of the broker."""
    settings = Settings()
    for grant in grants(settings, settings.read_catalogue(), arguments.role):
        print(grant.command(arguments.user or arguments.role))
    return 0
