"""Completion of commands and their options in bash, zsh and fish."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from importlib import import_module

from port_router.programs import PROGRAMS
from streams.__main__ import COMMANDS
from streams.commands.program import CONSOLE_SCRIPT

SHELLS = ("bash", "zsh", "fish")
GLOBAL_OPTIONS = ("--help", "--env-file")

BASH = """_port_router() {{
    local i command="" words="{commands} --version --env-file --help"
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{COMP_WORDS[i]}}" in
            --env-file) ((i++)) ;;
            -*) ;;
            *) command="${{COMP_WORDS[i]}}"; break ;;
        esac
    done
    case "$command" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _port_router port-router
"""


def main(arguments: Sequence[str]) -> int:
    """Print the script of a shell."""
    parser = argparse.ArgumentParser(
        prog=f"{CONSOLE_SCRIPT} completion",
        description="Print the completion script of a shell. "
        f"In bash: source <({CONSOLE_SCRIPT} completion bash)",
    )
    parser.add_argument("shell", choices=SHELLS)
    words = {name: sorted(set(_words(name))) for name in (*COMMANDS, *PROGRAMS)}
    words["completion"] = sorted(SHELLS)
    print(script(parser.parse_args(arguments).shell, words), end="")
    return 0


def script(shell: str, words: dict[str, list[str]]) -> str:
    """Return the script of a shell.

    Parameters
    ----------
    shell : {"bash", "zsh", "fish"}
    words : dict of str to list of str
        Options and further commands of each command.
    """
    if shell == "fish":
        condition = "__fish_use_subcommand"
        lines = [f"complete -c {CONSOLE_SCRIPT} -n {condition} -a '{' '.join(words)}'"]
        lines += [
            f"complete -c {CONSOLE_SCRIPT} -n '__fish_seen_subcommand_from {name}' -a '{' '.join(options)}'"
            for name, options in words.items()
        ]
        return "\n".join(lines) + "\n"
    cases = "\n".join(f'        {name}) words="{" ".join(options)}" ;;' for name, options in words.items())
    bash = BASH.format(commands=" ".join(words), cases=cases)
    return bash if shell == "bash" else f"autoload -Uz bashcompinit && bashcompinit\n{bash}"


def _words(name: str) -> Iterator[str]:
    yield from GLOBAL_OPTIONS
    parser = argparse.ArgumentParser()
    try:
        if name in COMMANDS:
            import_module(f"streams.commands.{name}").add_arguments(parser)
        else:
            program = PROGRAMS[name]
            parser = import_module(program.module).parser()
            for word in program.before:
                parser = next(_commands(parser)).choices[word]
    except ModuleNotFoundError:
        return  # its extra is not installed
    yield from (option for action in parser._actions for option in action.option_strings if option[1] == "-")
    for commands in _commands(parser):
        yield from commands.choices


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse._SubParsersAction]:
    yield from (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
