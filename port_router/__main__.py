"""`port-router COMMAND`: find the command, set the variables of its files, and run it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

from port_router.programs import PROGRAMS
from streams.__main__ import COMMANDS
from streams.__main__ import main as run_streams
from streams.commands.program import CONSOLE_SCRIPT, add_env_file, apply_env_file

ENV_FILE = "--env-file"
COMPLETION = "completion"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    # subprograms take their names for usage and errors from it
    sys.argv[0] = os.path.join(os.path.dirname(sys.argv[0]), CONSOLE_SCRIPT)
    words = list(sys.argv[1:] if arguments is None else arguments)
    files, command = split_env_files(words)
    top = parser()
    if not command or command[0].startswith("-") or command[0] not in names():
        top.parse_args(command)
    apply_env_file(top, argparse.Namespace(env_file=files))
    name, *arguments_of_command = command
    if name in COMMANDS:
        return run_streams([name, *arguments_of_command])
    if name == COMPLETION:
        from port_router.completion import main as print_completion

        return print_completion(arguments_of_command)
    return PROGRAMS[name].run(arguments_of_command)


def names() -> dict[str, str]:
    """Return the summaries of all commands by their names."""
    summaries = {name: program.summary for name, program in PROGRAMS.items()}
    return COMMANDS | summaries | {COMPLETION: "print the completion of a shell: bash, zsh or fish"}


def parser() -> argparse.ArgumentParser:
    """Return the parser of what stands before the command."""
    top = argparse.ArgumentParser(
        prog=CONSOLE_SCRIPT,
        description="A streaming LLM router on Kafka. Settings come from PORT_... variables. "
        f"`{CONSOLE_SCRIPT} COMMAND --help` describes a command.",
    )
    top.add_argument("--version", action="version", version=f"{CONSOLE_SCRIPT} {version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in names().items():
        commands.add_parser(name, help=summary, add_help=False)
    add_env_file(top)
    return top


def version() -> str:
    """Return the version of the installed package, or of the source, as in an image."""
    try:
        return metadata.version(CONSOLE_SCRIPT)
    except metadata.PackageNotFoundError:
        source = ConfigParser()
        source.read(Path(__file__).parents[1] / "setup.cfg")
        return source.get("metadata", "version", fallback="(not installed)")


def split_env_files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the files of variables, which may stand before or after the command, from the other arguments.

    Examples
    --------
    >>> split_env_files(["--env-file", "a.env", "send", "--env-file=b.env", "--", "--env-file"])
    (['a.env', 'b.env'], ['send', '--', '--env-file'])
    """
    files: list[str] = []
    others: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            others += [argument, *remaining]
        elif argument.startswith(ENV_FILE + "="):
            files.append(argument.partition("=")[2])
        elif argument == ENV_FILE and (file := next(remaining, None)) is not None:
            files.append(file)
        else:
            others.append(argument)
    return files, others


if __name__ == "__main__":
    sys.exit(main())
