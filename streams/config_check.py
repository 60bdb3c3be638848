"""The effective settings, where each came from, and everything that is wrong with them at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from routing.catalogue import Catalogue, CatalogueError
from routing.history import EmbeddedHistory, HistoryError
from routing.presets import Preset, choose_preset
from streams.kafka import BrokerUnreachable, reach_broker
from streams.settings import (
    BROKER_VARIABLES,
    FILE_SETTINGS,
    PREFIX,
    SETTINGS_SECTION,
    Settings,
    contradictions,
    read_yaml,
)
from streams.topics import existing_partitions, mismatches, not_compacted, topic_specs

BROKER_SECONDS = 3.0


@dataclass(frozen=True)
class Effective:
    """One setting as it is in force; a secret's value is masked."""

    name: str
    value: str
    source: str
    description: str


@dataclass
class Report:
    """What `config check` found."""

    settings: Settings | None = None
    effective: list[Effective] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Unchecked(Settings):
    """Settings that are taken as they are, so that the rest can be looked at when some are wrong."""

    model_config = SettingsConfigDict(extra="ignore")

    def _fits_together(self) -> _Unchecked:  # type: ignore[override]
        return self


def check_config(environment: Mapping[str, str] = os.environ, connect: bool = True) -> Report:
    """All settings and all mistakes in them.

    Parameters
    ----------
    environment : mapping
        What is looked through for variables that are no settings; values always come from the process's own.
    connect : bool
        Whether to ask the broker too: does it answer, are there topics that do not fit.
    """
    report = Report()
    wrong: dict[str, Any] = {}
    try:
        report.settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = _field_of(problem["loc"])
            if name is None:
                continue  # what does not fit together is told below, one by one
            unknown = problem["type"] == "extra_forbidden"
            reason = "there is no such setting" if unknown else problem["msg"]
            report.mistakes.append(f"{name}: {_shown(name, problem['input'])}: {reason}")
            if name in Settings.model_fields:
                wrong[name] = Settings.model_fields[name].default
    settings = report.settings or _Unchecked(**wrong)
    report.mistakes += contradictions(settings)
    report.mistakes += _missing_files(settings)
    catalogue, problems = _catalogue(settings)
    report.mistakes += problems
    preset, problems = _history(settings, catalogue)
    report.mistakes += problems
    report.mistakes += _broker_problems(settings, catalogue, connect)
    section = _file_section(settings)
    planning = preset.planning if preset else {}
    in_force = settings.with_preset(planning)
    for name in Settings.model_fields:
        row = _effective(in_force, name, environment, section, wrong)
        if preset and name in planning.keys() - settings.model_fields_set:
            row = replace(row, source=f"preset {preset.name}")
        report.effective.append(row)
    for text, likely in _unknown_variables(environment):
        (report.mistakes if likely else report.notes).append(text)
    return report


def _field_of(location: tuple[int | str, ...]) -> str | None:
    if not location:
        return None
    name = str(location[0])
    return "bootstrap_servers" if name in BROKER_VARIABLES else name


def _shown(name: str, value: object) -> str:
    text = repr(value.get_secret_value() if isinstance(value, SecretStr) else value)
    secret = name in Settings.model_fields and "SecretStr" in str(Settings.model_fields[name].annotation)
    return "**********" if secret else text if len(text) <= 80 else text[:77] + "..."


def _missing_files(settings: Settings) -> list[str]:
    found = []
    for name in FILE_SETTINGS:
        path: Path | None = getattr(settings, name)
        if path is not None and not path.exists():
            found.append(f"{name}: {path} is not there; correct the path")
    if settings.history is None:
        found.append("history: not set; set PORT_HISTORY to a folder made by `python -m producers.prepare`")
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        found.append(
            f"data_dir: {settings.data_dir} cannot be made, {folder} is not writable; choose another"
        )
    return found


def _catalogue(settings: Settings) -> tuple[Catalogue | None, list[str]]:
    try:
        return settings.read_catalogue(), []
    except CatalogueError as error:
        return None, error.problems


def _history(settings: Settings, catalogue: Catalogue | None) -> tuple[Preset | None, list[str]]:
    """The preset that fits the history, and what is wrong with either."""
    if settings.history is None or not settings.history.exists():
        return None, []
    try:
        history = EmbeddedHistory.load(settings.history).history
        if catalogue is not None:
            history.with_models(catalogue.names)
    except (HistoryError, OSError, ValueError) as error:
        return None, [f"history: {settings.history}: {error}"]
    try:
        preset, found = choose_preset(len(history), settings.preset)[0], []
    except ValueError as error:
        preset, found = None, [str(error)]
    lacking = sorted(set(catalogue.names) - set(history.models)) if catalogue else []
    if lacking and not settings.exploration:
        found.append(
            f"catalogue: the history knows nothing of {', '.join(lacking)}; remove them, add their columns, "
            "or set PORT_EXPLORATION above 0 to measure them"
        )
    return preset, found


def _broker_problems(settings: Settings, catalogue: Catalogue | None, connect: bool) -> list[str]:
    if settings.bootstrap_servers is None:
        return ["bootstrap_servers: no broker is set; set KAFKA_BOOTSTRAP_SERVERS to host:port"]
    if not connect or contradictions(settings):
        return []
    try:
        admin = reach_broker(settings, BROKER_SECONDS)
    except BrokerUnreachable as error:
        return [str(error)]
    except Exception as error:  # librdkafka refuses a configuration, as with an unreadable certificate
        return [f"bootstrap_servers: no client can be made for {settings.bootstrap_servers}: {error}"]
    if catalogue is None:
        return []
    specs, existing = topic_specs(settings, catalogue), existing_partitions(admin)
    missing = [f"topic {spec.name}: is not there" for spec in specs if spec.name not in existing]
    if missing:
        missing = [f"{missing[0]} and {len(missing) - 1} more; run `python -m streams topics create`"]
    return mismatches(specs, existing) + not_compacted(admin, specs, existing) + missing


def _file_section(settings: Settings) -> dict[str, Any]:
    if settings.catalogue is None:
        return {}
    try:
        data = read_yaml(settings.catalogue)
    except CatalogueError:
        return {}
    section = data.get(SETTINGS_SECTION) if isinstance(data, dict) else None
    return section if isinstance(section, dict) else {}


def _effective(
    settings: Settings,
    name: str,
    environment: Mapping[str, str],
    section: Mapping[str, Any],
    wrong: Mapping[str, Any],
) -> Effective:
    variables = BROKER_VARIABLES if name == "bootstrap_servers" else (PREFIX + name.upper(),)
    present = {key.upper() for key, value in environment.items() if value}
    if name in wrong:
        source = "default, for it is wrong"
    elif used := [variable for variable in variables if variable in present]:
        source = used[0]
    else:
        source = str(settings.catalogue) if name in section else "default"
    value = getattr(settings, name)
    text = "not set" if value is None else str(value)
    return Effective(name, text, source, Settings.model_fields[name].description or "")


def _unknown_variables(environment: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Variables that look like settings: a text for each, and whether it is likely a slip of the pen."""
    found = []
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or name in Settings.model_fields:
            continue
        close = difflib.get_close_matches(name, Settings.model_fields, 1, 0.8)
        hint = f"; {PREFIX}{close[0].upper()} is meant?" if close else ""
        found.append((f"{variable}: there is no such setting{hint}", bool(close)))
    return found
