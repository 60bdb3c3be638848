"""Texts about invalid settings: field, value and fix, without secrets."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from streams.config.catalogue_file import (
    BROKER_VARIABLES,
    PREFIX,
    SETTINGS_SECTION,
)
from streams.config.conflicts import ConflictingSettingsError
from streams.config.service_links import without_service_links
from streams.config.settings import (
    Settings,
)

FORMS = {
    "app_id": "1 to 100 letters, digits, dots, _ and -",
    "instance_id": "1 to 100 letters, digits, dots, _ and -",
    "bootstrap_servers": "host:port, or several separated by commas",
    "reserve": "estimate, bound, or a percentile such as p95",
    "topic_prefix": "at most 40 letters, digits, dots, _ and -",
}
"""Descriptions of the patterns of settings."""

MAX_SHOWN_CHARACTERS = 80


def setting_errors(error: ValidationError) -> Iterator[tuple[str | None, str]]:
    """Yield the setting, or None for a conflict, and a text for each error of making `Settings`.

    A text names field, value and fix. It contains no values of secrets, and none of unknown settings, which
    may be secrets under a misspelled name.
    """
    for problem in error.errors():
        if not problem["loc"]:
            cause = problem.get("ctx", {}).get("error")
            problems = cause.problems if isinstance(cause, ConflictingSettingsError) else [problem["msg"]]
            yield from ((None, text) for text in problems)
            continue
        name = str(problem["loc"][0])
        name = "bootstrap_servers" if name in BROKER_VARIABLES else name
        if name not in Settings.model_fields:
            yield name, _unknown(name, problem["input"])
        else:
            yield (
                name,
                f"{name}: {_shown(name, problem['input'])} must be {expected_value(name)}; {_fix(name)}",
            )


def expected_value(name: str) -> str:
    """Describe the valid values of a setting.

    Examples
    --------
    >>> expected_value("lane_room"), expected_value("eps"), expected_value("solver")
    ('a whole number, 1 or more', 'a number, above 0 and at most 1', 'exact or newton')
    """
    if name in FORMS:
        return FORMS[name]
    if values := allowed_values(name):
        return " or ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else values[0]
    annotation = Settings.model_fields[name].annotation
    kinds = {annotation, *get_args(annotation)}
    if bool in kinds:
        return "true or false"
    if kinds & {int, float}:
        return f"{'a whole number' if int in kinds else 'a number'}{_bounds(name)}"
    return "a text"


def allowed_values(name: str) -> list[str]:
    """Return the values of a setting that has a fixed list of them; otherwise an empty list."""
    annotation = Settings.model_fields[name].annotation
    parts = [annotation, *get_args(annotation)]
    return [value for part in parts for value in get_args(part) if isinstance(value, str)]


def closest_setting(name: str) -> str:
    """Return the setting with the most similar name; empty if none is similar."""
    return next(iter(difflib.get_close_matches(name.lower(), Settings.model_fields, 1, 0.8)), "")


def unknown_variables(environment: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Return a text for each variable that is named like a setting and is none, and True if it seems a typo.

    Parameters
    ----------
    environment : mapping
        Variables, without those that Kubernetes sets for Services.

    Examples
    --------
    >>> unknown_variables({"PORT_HORIZN": "500"})
    [('PORT_HORIZN: there is no such setting; PORT_HORIZON is meant?', True)]
    """
    texts = []
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or name in Settings.model_fields:
            continue
        meant = closest_setting(name)
        hint = f"{PREFIX}{meant.upper()} is meant?" if meant else "correct its name, or unset it"
        texts.append((f"{variable}: there is no such setting; {hint}", bool(meant)))
    return texts


def _bounds(name: str) -> str:
    limits: dict[str, Any] = {}
    for limit in Settings.model_fields[name].metadata:
        limits |= {key: getattr(limit, key) for key in ("ge", "gt", "le", "lt") if hasattr(limit, key)}
    if {"ge", "le"} <= limits.keys():
        return f" from {limits['ge']} to {limits['le']}"
    words = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    bounds = [text.format(limits[key]) for key, text in words.items() if key in limits]
    return f", {' and '.join(bounds)}" if bounds else ""


def _unknown(name: str, value: object) -> str:
    if name == SETTINGS_SECTION:
        kind = type(value).__name__
        return f"settings: is a {kind}; give names with values in the catalogue's file, as `horizon: 500`"
    meant = closest_setting(name)
    hint = f"; {meant} is meant?" if meant else ""
    return f"{_cut(name)}: there is no such setting{hint}; correct or remove it in the catalogue's file"


def _shown(name: str, value: object) -> str:
    secret = "SecretStr" in str(Settings.model_fields[name].annotation)
    return "**********" if secret else _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 3] + "..."


def _fix(name: str) -> str:
    present = {key.upper() for key, value in without_service_links(os.environ).items() if value}
    variables = BROKER_VARIABLES if name == "bootstrap_servers" else (PREFIX + name.upper(),)
    used = [variable for variable in variables if variable in present]
    return f"correct {used[0]}" if used else "correct it in the catalogue's file"
