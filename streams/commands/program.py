"""Functions of all commands: variables from files, and errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

CONSOLE_SCRIPT = "port-router"


def program_name(module: str) -> str:
    """Return a program's name for its usage: by its module, or by its command of the console script."""
    if os.path.basename(sys.argv[0]) != CONSOLE_SCRIPT:
        return f"python -m {module}"
    command = module.rpartition(".")[2]
    return CONSOLE_SCRIPT if command == "streams" else f"{CONSOLE_SCRIPT} {command}"


def add_env_file(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a file of variables; `apply_env_file` sets them.

    The commands of a parser, at any depth, take the option after their names too. Call this when the parser
    has all its commands.
    """
    _add_env_file(parser, "env_file")
    _add_to_commands(parser, 1)


def _add_env_file(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--env-file",
        dest=name,
        action="append",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="file of variables; those already set win, and of several files the last",
    )


def _add_to_commands(parser: argparse.ArgumentParser, depth: int) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                # a separate name, because values of a command replace those of the program
                _add_env_file(command, f"env_file_{depth}")
                _add_to_commands(command, depth + 1)


def apply_env_file(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Set the variables of the named files; exit with an error if a file cannot be read."""
    from streams.config.env_files import read_variables, set_variables

    named = [name for name in vars(arguments) if name.startswith("env_file")]
    variables: dict[str, str] = {}
    for path in (path for name in sorted(named) for path in getattr(arguments, name)):
        try:
            variables |= read_variables(Path(path))
        except OSError as error:
            parser.error(f"--env-file: {path} cannot be read ({error.strerror})")
        except ValueError as error:
            parser.error(f"--env-file: {error}")
    set_variables(variables)


def run_command(command: Callable[[], int]) -> int:
    """Run a command, and print errors that its user can correct in one line.

    Returns
    -------
    int
        The command's exit status; 1 after an error, 130 when interrupted.
    """
    try:
        status = command()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # the reader closed the pipe; silence the interpreter's final flush, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from streams.commands.error_lines import error_lines  # its imports would slow `--help` down

        if not (lines := error_lines(error)):
            raise
        for line in lines:
            print(line, file=sys.stderr)
    return 1
