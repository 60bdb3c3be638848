"""`python -m streams acls ROLE --user NAME`: permissions of a role, for kafka-acls.sh or for Strimzi."""

from __future__ import annotations

import argparse

from streams.config.settings import Settings
from streams.kafka.acls import ROLES, grants
from streams.kafka.strimzi import to_yaml, user_resource


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    roles = "; ".join(f"{name} {text}" for name, text in ROLES.items())
    parser.add_argument("role", choices=list(ROLES), help=roles)
    parser.add_argument("--user", metavar="NAME", help="principal, without `User:` [the role's name]")
    parser.add_argument(
        "--format",
        choices=("kafka-acls", "strimzi"),
        default="kafka-acls",
        help="arguments of kafka-acls.sh, or a KafkaUser of the Strimzi operator [%(default)s]",
    )
    parser.add_argument(
        "--authentication",
        choices=("scram-sha-512", "tls"),
        default="scram-sha-512",
        help="login of the KafkaUser [%(default)s]",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each permission, or one resource, without a request to the broker."""
    settings = Settings()
    user, granted = (
        arguments.user or arguments.role,
        grants(settings, settings.read_catalogue(), arguments.role),
    )
    if arguments.format == "strimzi":
        print(to_yaml([user_resource(user, granted, arguments.authentication)]), end="")
        return 0
    for grant in granted:
        print(grant.command(user))
    return 0
