"""The command line: `python -m streams COMMAND`. A command's module is imported only when it is called."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from streams.command_line import add_env_file, take_env_file, told_in_a_line

COMMANDS = {
    "config": "check the settings and show where each comes from",
    "topics": "create or list the topics",
    "worker": "run a worker",
    "check": "read every topic and say whether the invariants hold",
    "plan": "show the plan in force, or apply another catalogue while workers run",
    "bill": "show what each period cost, by LLM",
    "explain": "show why a query went where it went",
    "acls": "list what a role must be granted on the broker",
    "dlq": "count, show or replay dead letters",
}
"""Name and help; streams.commands.NAME has `add_arguments(parser)` and `run(arguments) -> int`."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 fine, 1 something is wrong, 2 called wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m streams",
        description="The streaming router. Settings come from PORT_... variables; `config check` lists them.",
    )
    add_env_file(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    given = sys.argv[1:] if arguments is None else arguments
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        if name in given:
            import_module(f"streams.commands.{name}").add_arguments(command)
    chosen = parser.parse_args(given)
    take_env_file(parser, chosen)
    module = import_module(f"streams.commands.{chosen.command}")
    return told_in_a_line(lambda: int(module.run(chosen)))


if __name__ == "__main__":
    sys.exit(main())
