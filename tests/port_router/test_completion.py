"""Completion of `port-router` in bash, as the shell calls it."""

import shutil
import subprocess

import pytest

from port_router.__main__ import main, names
from port_router.programs import PROGRAMS
from streams.__main__ import COMMANDS

COMPLETE = """
COMP_WORDS=(port-router "$@")
COMP_CWORD=$#
_port_router
echo "${COMPREPLY[*]}"
"""


def script_of(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def test_bash_completes_commands_their_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    script = script_of("bash", capsys)

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", script + COMPLETE, "bash", *words], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert set(names()) <= set(completed(""))
    assert completed("wor") == ["worker"]
    assert {"show", "apply", "pause", "resume"} <= set(completed("plan", ""))
    assert completed("--env-file", "some.env", "broker", "sta") == ["start", "status"]
    assert "--embeddings" in completed("fit", "--e")
    assert completed("completion", "") == ["bash", "fish", "zsh"]


def test_scripts_of_other_shells_name_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert script_of("zsh", capsys).startswith("autoload -Uz bashcompinit && bashcompinit\n_port_router()")
    fish = script_of("fish", capsys)
    for name in (*COMMANDS, *PROGRAMS):
        assert f"'__fish_seen_subcommand_from {name}' -a '" in fish
    if program := shutil.which("fish"):
        subprocess.run([program, "--no-execute"], input=fish, text=True, check=True)
