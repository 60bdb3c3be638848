"""The command line: `python -m streams COMMAND`. A command's module is imported only when it is called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from streams.commands.program import add_env_file, apply_env_file, program_name, run_command

COMMANDS = {
    "config": "check the settings and show where each comes from",
    "topics": "create or list the topics",
    "worker": "run a worker",
    "check": "read every topic and say whether the invariants hold",
    "plan": "show the plan in force, or apply another catalogue while workers run",
    "bill": "show what each period cost, by LLM",
    "explain": "show why a query went where it went",
    "history": "export answered queries with their quality, to grow the history by",
    "decisions": "export logged decisions with the reported quality, for off-line evaluation",
    "shadow": "compare a shadow's decisions with those in force",
    "acls": "list what a role must be granted on the broker",
    "dlq": "count, show or replay dead letters",
    "schema": "print the JSON Schema of a message, or the AsyncAPI document",
}
"""Name and help; streams.commands.NAME has `add_arguments(parser)` and `run(arguments) -> int`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 fine, 1 something is wrong, 2 called wrongly."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: _run(words))


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=program_name("streams"),
        description="The streaming router. Settings come from PORT_... variables; `config check` lists them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        if name in arguments:
            import_module(f"streams.commands.{name}").add_arguments(command)
    add_env_file(parser)
    options = parser.parse_args(arguments)
    apply_env_file(parser, options)
    return int(import_module(f"streams.commands.{options.command}").run(options))


if __name__ == "__main__":
    sys.exit(main())
