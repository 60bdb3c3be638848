"""What is wrong with single settings: field, value and fix of each mistake, and no secret."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import ValidationError

from streams.contradictions import ContradictionError
from streams.settings import BROKER_VARIABLES, PREFIX, SETTINGS_SECTION, Settings

FORMS = {
    "app_id": "1 to 100 letters, digits, dots, _ and -",
    "bootstrap_servers": "host:port, or several separated by commas",
    "topic_prefix": "at most 40 letters, digits, dots, _ and -",
}
"""What the patterns of settings say."""

SHOWN = 80


def mistakes(error: ValidationError) -> Iterator[tuple[str | None, str]]:
    """What was wrong when `Settings` were made: the setting, where it is one's, and a text.

    A text names field, value and fix. Values of secrets are not in it, nor those of settings that do not
    exist: they may be secrets under a misspelled name.
    """
    for problem in error.errors():
        if not problem["loc"]:
            cause = problem.get("ctx", {}).get("error")
            problems = cause.problems if isinstance(cause, ContradictionError) else [problem["msg"]]
            yield from ((None, text) for text in problems)
            continue
        name = str(problem["loc"][0])
        name = "bootstrap_servers" if name in BROKER_VARIABLES else name
        if name not in Settings.model_fields:
            yield name, _unknown(name, problem["input"])
        else:
            yield name, f"{name}: {_shown(name, problem['input'])} must be {wanted(name)}; {_where(name)}"


def wanted(name: str) -> str:
    """What a setting's value must be, in words.

    Examples
    --------
    >>> wanted("lane_room"), wanted("eps"), wanted("solver")
    ('a whole number, 1 or more', 'a number, above 0 and at most 1', 'exact or newton')
    """
    if name in FORMS:
        return FORMS[name]
    if values := choices(name):
        return " or ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else values[0]
    annotation = Settings.model_fields[name].annotation
    kinds = {annotation, *get_args(annotation)}
    if bool in kinds:
        return "true or false"
    if kinds & {int, float}:
        return f"{'a whole number' if int in kinds else 'a number'}{_bounds(name)}"
    return "a text"


def choices(name: str) -> list[str]:
    """The values that a setting can have, where they are few."""
    annotation = Settings.model_fields[name].annotation
    parts = [annotation, *get_args(annotation)]
    return [value for part in parts for value in get_args(part) if isinstance(value, str)]


def likely_meant(name: str) -> str:
    """The setting whose name is like this one; empty when none is."""
    return next(iter(difflib.get_close_matches(name.lower(), Settings.model_fields, 1, 0.8)), "")


def _bounds(name: str) -> str:
    limits: dict[str, Any] = {}
    for one in Settings.model_fields[name].metadata:
        limits |= {key: getattr(one, key) for key in ("ge", "gt", "le", "lt") if hasattr(one, key)}
    if {"ge", "le"} <= limits.keys():
        return f" from {limits['ge']} to {limits['le']}"
    words = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    found = [text.format(limits[key]) for key, text in words.items() if key in limits]
    return f", {' and '.join(found)}" if found else ""


def _unknown(name: str, given: object) -> str:
    if name == SETTINGS_SECTION:
        kind = type(given).__name__
        return f"settings: is a {kind}; give names with values in the catalogue's file, as `horizon: 500`"
    meant = likely_meant(name)
    hint = f"; {meant} is meant?" if meant else ""
    return f"{_cut(name)}: there is no such setting{hint}; correct or remove it in the catalogue's file"


def _shown(name: str, given: object) -> str:
    secret = "SecretStr" in str(Settings.model_fields[name].annotation)
    return "**********" if secret else _cut(repr(given))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _where(name: str) -> str:
    present = {key.upper() for key, value in os.environ.items() if value}
    variables = BROKER_VARIABLES if name == "bootstrap_servers" else (PREFIX + name.upper(),)
    used = [variable for variable in variables if variable in present]
    return f"correct {used[0]}" if used else "correct it in the catalogue's file"
