"""`python -m routing prices import`: fill the prices and context windows of a catalogue."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from routing.budgets.catalogue import Catalogue
from routing.budgets.known_prices import find_prices, with_prices
from routing.extras import missing_module


def add_prices(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `prices import`."""
    actions = commands.add_parser("prices", help="list prices of LLMs", description=__doc__)
    importing = actions.add_subparsers(dest="action", required=True).add_parser(
        "import", help="fill prices and context windows from genai-prices", description=__doc__
    )
    importing.add_argument("--catalogue", required=True, type=Path, metavar="FILE", help="YAML file")
    importing.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write [print the catalogue; --catalogue overwrites]"
    )
    importing.add_argument("--provider", metavar="NAME", help="provider of all LLMs, such as azure")
    importing.add_argument(
        "--overwrite", action="store_true", help="replace fields that are set, as prices have changed"
    )


def import_prices(options: argparse.Namespace) -> int:
    """Fill a catalogue's fields and return the exit status: 1 if some LLM is unknown to the package.

    Raises
    ------
    ValueError
        The catalogue is invalid, or the package is not installed.
    OSError
        A file cannot be read or written.
    """
    try:
        data = yaml.safe_load(options.catalogue.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{options.catalogue}: is not YAML ({error})") from None
    catalogue = Catalogue.from_dict(data)
    at, models, unknown = datetime.now(UTC), [], []
    for model in catalogue.models:
        try:
            known_prices = find_prices(model.name, at, options.provider)
        except ModuleNotFoundError:
            raise ValueError(missing_module("genai_prices")) from None
        if known_prices is None:
            unknown.append(model.name)
            models.append(model)
            continue
        filled, lines = with_prices(model, known_prices, overwrite=options.overwrite)
        models.append(filled)
        for line in lines:
            print(f"{line} ({known_prices.provider}/{known_prices.model})", file=sys.stderr)
        if known_prices.tiered:
            print(f"note: {model.name} costs more for long prompts, which is left out", file=sys.stderr)
    text = yaml.safe_dump(replace(catalogue, models=tuple(models)).to_dict(), sort_keys=False)
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text)
    for name in unknown:
        print(f"{name}: genai-prices does not know it; set its prices by hand", file=sys.stderr)
    return 1 if unknown else 0
