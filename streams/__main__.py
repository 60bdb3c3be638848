"""The command line: `python -m streams COMMAND`. A command's module is imported only when it is called."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from dotenv import dotenv_values

COMMANDS = {
    "config": "check the settings and show where each comes from",
    "topics": "create or list the topics",
    "worker": "run a worker",
}
"""Name and help; streams.commands.NAME has `add_arguments(parser)` and `run(arguments) -> int`."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 fine, 1 something is wrong, 2 called wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m streams",
        description="The streaming router. Settings come from PORT_... variables; `config check` lists them.",
    )
    parser.add_argument("--env-file", metavar="FILE", help="file of variables; those already set win")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    given = sys.argv[1:] if arguments is None else arguments
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        if name in given:
            import_module(f"streams.commands.{name}").add_arguments(command)
    chosen = parser.parse_args(given)
    if chosen.env_file and not load_variables(chosen.env_file):
        parser.error(f"--env-file: {chosen.env_file} cannot be read or has no variables")
    return run(chosen)


def load_variables(path: str) -> bool:
    """Sets the variables of a file that are not set yet; whether there were any."""
    variables = dotenv_values(path) if os.path.isfile(path) else {}
    for name, value in variables.items():
        os.environ.setdefault(name, value or "")
    return bool(variables)


def run(chosen: argparse.Namespace) -> int:
    """Calls the command; what it cannot help is told in a line, not in a traceback."""
    from pydantic import ValidationError

    from routing.catalogue import CatalogueError
    from streams.kafka import BrokerUnreachable
    from streams.topics import TopicMismatch

    try:
        return int(import_module(f"streams.commands.{chosen.command}").run(chosen))
    except ValidationError as error:
        for problem in error.errors(include_input=False):
            place = ".".join(str(part) for part in problem["loc"])
            print(f"error: {place + ': ' if place else ''}{problem['msg']}", file=sys.stderr)
        print("`python -m streams config check` shows all settings and all mistakes", file=sys.stderr)
    except (CatalogueError, TopicMismatch) as error:
        for text in error.problems:
            print(f"error: {text}", file=sys.stderr)
    except (BrokerUnreachable, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
