"""Table of the programs that are commands of `port-router` beside those of `python -m streams`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from routing.extras import missing_module, require_extra


@dataclass(frozen=True)
class Program:
    """A program with its own `main(arguments)` and `parser()`.

    Parameters
    ----------
    module : str
        Imported when the command is called.
    summary : str
        For the list of commands.
    extra : str, optional
        The extra that brings what the program imports.
    before : tuple of str
        Arguments of the program that the command's name stands for.
    """

    module: str
    summary: str
    extra: str | None = None
    before: tuple[str, ...] = ()

    def run(self, arguments: Sequence[str]) -> int:
        """Run the program; exit with an error that names the extra if a module is missing."""
        if self.extra is not None:
            require_extra(self.extra)
        try:
            return int(import_module(self.module).main([*self.before, *arguments]))
        except ModuleNotFoundError as error:
            if not (text := missing_module(error.name)):
                raise
            print(f"error: {text}", file=sys.stderr)
            return 1


PROGRAMS = {
    "send": Program("producers.send", "send queries"),
    "batch": Program("producers.batch.__main__", "route a batch file, and collect its answers"),
    "prepare": Program("producers.prepare", "split a data set into history and queries", "replay"),
    "fit": Program("routing.__main__", "fit a preset to a history", "fit", ("fit",)),
    "replay": Program("producers.replay", "replay a prepared data set, and report the results", "replay"),
    "fleet": Program("producers.fleet.__main__", "answer the queries of one LLM", "fleet"),
    "gateway": Program("producers.gateway.__main__", "serve OpenAI's API over HTTP", "gateway"),
    "experiments": Program("experiments.__main__", "run the experiments of the laboratory", "experiments"),
    "broker": Program("infra.broker.__main__", "start, stop and find brokers for development"),
}
"""Programs by the name of their command."""
