"""The effective settings, where each came from, and everything that is wrong with them at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from routing.catalogue import Catalogue, CatalogueError
from routing.folder import FolderError
from routing.history import HistoryError
from routing.presets import PRESETS, Preset
from streams.charging import lacking_prices
from streams.contradictions import SECURITY, contradictions
from streams.estimating import Known, load_known, load_plain_embedder
from streams.idle_settings import idle_settings
from streams.kafka import BrokerUnreachable, reach_broker
from streams.mistakes import likely_meant, mistakes
from streams.settings import (
    BROKER_VARIABLES,
    FILE_SETTINGS,
    PREFIX,
    SETTINGS_SECTION,
    Settings,
    read_yaml,
)
from streams.topics import (
    existing_partitions,
    led_by_nobody,
    mismatches,
    not_compacted,
    topic_specs,
    without_leader,
)

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
        for name, text in mistakes(error):
            if name is None:
                continue  # what does not fit together is told below, for what is not wrong by itself
            report.mistakes.append(text)
            if name in Settings.model_fields:
                wrong[name] = Settings.model_fields[name].default
    settings = report.settings or _Unchecked(**wrong)
    report.mistakes += contradictions(settings, wrong)
    report.mistakes += _missing_files(settings)
    catalogue, problems = _catalogue(settings)
    report.mistakes += problems
    known, problems = _history(settings, catalogue)
    report.mistakes += problems
    report.mistakes += _broker_problems(settings, catalogue, wrong, connect)
    section = _file_section(settings)
    preset = _preset(settings, known)
    planning = preset.planning if preset else {}
    in_force = settings.with_preset(planning)
    said = settings.model_fields_set - wrong.keys()
    report.notes += idle_settings(in_force, said, known.fitted if known else None)
    for name in Settings.model_fields:
        row = _effective(in_force, name, environment, section, wrong)
        if preset and name in planning.keys() - settings.model_fields_set:
            row = replace(row, source=f"preset {preset.name}")
        report.effective.append(row)
    for text, likely in _unknown_variables(environment):
        (report.mistakes if likely else report.notes).append(text)
    return report


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
        catalogue = settings.read_catalogue()
    except CatalogueError as error:
        return None, error.problems
    problem = lacking_prices(catalogue) if settings.reserve == "bound" else None
    return catalogue, [problem] if problem else []


def _history(settings: Settings, catalogue: Catalogue | None) -> tuple[Known | None, list[str]]:
    """What a worker would rest on, and why it would not start."""
    try:
        if settings.history is None or not settings.history.exists():
            if settings.embedder is not None:
                load_plain_embedder(settings)
            return None, []
        known = load_known(settings)
        if catalogue is not None:
            known.history.history.with_models(catalogue.names)
    except (HistoryError, FolderError, FileNotFoundError) as error:
        return None, [f"history: {error}"]
    except (OSError, ValueError) as error:
        return None, [str(error)]
    lacking = sorted(set(catalogue.names) - set(known.history.models)) if catalogue else []
    if not lacking or settings.exploration:
        return known, []
    return known, [
        f"catalogue: the history knows nothing of {', '.join(lacking)}; remove them, add their columns, "
        "or set PORT_EXPLORATION above 0 to measure them"
    ]


def _preset(settings: Settings, known: Known | None) -> Preset | None:
    """The preset that a worker takes; where it would not start, the one that is asked for."""
    return PRESETS.get(known.preset if known else settings.preset)


def _broker_problems(
    settings: Settings, catalogue: Catalogue | None, wrong: Collection[str], connect: bool
) -> list[str]:
    if "bootstrap_servers" in wrong:
        return []
    if settings.bootstrap_servers is None:
        return ["bootstrap_servers: no broker is set; set KAFKA_BOOTSTRAP_SERVERS to host:port"]
    if not connect or contradictions(settings) or set(SECURITY) & set(wrong):
        return []
    try:
        admin = reach_broker(settings, BROKER_SECONDS)
    except BrokerUnreachable as error:
        return [str(error)]
    except Exception as error:  # librdkafka refuses a configuration, as with an unreadable certificate
        return [
            f"bootstrap_servers: no client can be made for {settings.bootstrap_servers} ({error}); "
            f"correct {', '.join(SECURITY)}"
        ]
    if catalogue is None or {"partitions", "topic_prefix"} & set(wrong):
        return []
    specs, existing = topic_specs(settings, catalogue), existing_partitions(admin)
    missing = [f"topic {spec.name}: is not there" for spec in specs if spec.name not in existing]
    if missing:
        missing = [f"{missing[0]} and {len(missing) - 1} more; run `python -m streams topics create`"]
    found = mismatches(specs, existing) + not_compacted(admin, specs, existing) + missing
    return found + led_by_nobody(without_leader(admin, [spec.name for spec in specs]))


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
        meant = likely_meant(name)
        hint = f"{PREFIX}{meant.upper()} is meant?" if meant else "correct its name, or unset it"
        found.append((f"{variable}: there is no such setting; {hint}", bool(meant)))
    return found
