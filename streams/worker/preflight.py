"""Preflight checks: effective settings with their sources, and all mistakes at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from routing.budgets.catalogue import Catalogue
from routing.budgets.schema import CatalogueError
from routing.fitting.presets import PRESETS, Preset
from routing.history.rules import HistoryError
from routing.history.storage import FolderError
from routing.planning.sample_size import few_samples
from streams.config.catalogue_file import (
    BROKER_VARIABLES,
    FILE_SETTINGS,
    PREFIX,
    SETTINGS_SECTION,
    read_yaml,
)
from streams.config.conflicts import conflicting_settings
from streams.config.planning_settings import planning_settings
from streams.config.service_links import service_link_notes, without_service_links
from streams.config.setting_errors import setting_errors, unknown_variables
from streams.config.settings import (
    SECURITY,
    Settings,
)
from streams.config.unused_settings import unused_settings
from streams.kafka.clients import BrokerUnreachable, reach_broker
from streams.kafka.topic_config import outdated_settings, read_topic_configs
from streams.kafka.topics import (
    added_partitions,
    count_leaderless,
    existing_partitions,
    leaderless_problems,
    topic_problems,
    topic_specs,
)
from streams.planner.catalogue_rules import (
    lacking_prices,
    unfunded_llms,
    unusable_llms,
)
from streams.router.estimation import LoadedHistory, load_history, load_plain_embedder
from streams.worker.port_check import port_problem

BROKER_SECONDS = 3.0


@dataclass(frozen=True)
class EffectiveSetting:
    """Value and source of one setting; the value of a secret is masked."""

    name: str
    value: str
    source: str
    description: str


@dataclass
class ConfigReport:
    """Result of `config check`."""

    settings: Settings | None = None
    effective: list[EffectiveSetting] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _LenientSettings(Settings):
    """Settings without checks across fields, so that valid ones can be checked when others are invalid."""

    model_config = SettingsConfigDict(extra="ignore")

    def _fits_together(self) -> _LenientSettings:  # type: ignore[override]
        return self


def check_config(environment: Mapping[str, str] = os.environ, connect: bool = True) -> ConfigReport:
    """Return all settings and all mistakes in them.

    Parameters
    ----------
    environment : mapping
        Variables that are searched for unknown names. Values always come from the process environment.
    connect : bool
        Check the broker and its topics, too.
    """
    report = ConfigReport()
    invalid: dict[str, Any] = {}
    try:
        report.settings = Settings()
    except ValidationError as error:
        for name, text in setting_errors(error):
            if name is None:
                continue  # conflicts are reported below, for settings that are valid by themselves
            report.mistakes.append(text)
            if name in Settings.model_fields:
                invalid[name] = Settings.model_fields[name].default
    settings = report.settings or _LenientSettings(**invalid)
    report.mistakes += conflicting_settings(settings, invalid)
    report.mistakes += _missing_files(settings)
    catalogue, problems = _catalogue(settings)
    report.mistakes += problems
    loaded, problems = _history(settings, catalogue)
    report.mistakes += problems
    problems, notes = _broker_problems(settings, catalogue, invalid, connect)
    report.mistakes += problems
    report.notes += notes
    if not {"web_host", "web_port"} & invalid.keys() and (problem := port_problem(settings)) is not None:
        text, is_mistake = problem
        (report.mistakes if is_mistake else report.notes).append(text)
    report.notes += service_link_notes(environment)
    environment = without_service_links(environment)
    section = _file_section(settings)
    preset = _preset(settings, loaded)
    planning = preset.planning if preset else {}
    in_force = settings.with_preset(planning)
    explicit = settings.model_fields_set - invalid.keys()
    report.notes += unused_settings(in_force, explicit, loaded.fitted if loaded else None)
    if catalogue is not None and loaded is not None:
        report.notes += unfunded_llms(catalogue, loaded.history.history, settings.reserve)
    if catalogue is not None and not invalid:
        warning = few_samples(planning_settings(in_force), len(catalogue.models))
        report.notes += [warning] if warning else []
    for name in Settings.model_fields:
        row = _effective(in_force, name, environment, section, invalid)
        from_preset = name in planning.keys() - settings.model_fields_set
        if preset and from_preset and planning[name] == getattr(in_force, name):
            row = replace(row, source=f"preset {preset.name}")
        report.effective.append(row)
    for text, is_typo in unknown_variables(environment):
        (report.mistakes if is_typo else report.notes).append(text)
    return report


def _missing_files(settings: Settings) -> list[str]:
    problems = []
    for name in FILE_SETTINGS:
        path: Path | None = getattr(settings, name)
        if path is not None and not path.exists():
            problems.append(f"{name}: {path} is not there; correct the path")
    if settings.history is None:
        problems.append("history: not set; set PORT_HISTORY to a folder made by `python -m routing fit`")
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problems.append(
            f"data_dir: {settings.data_dir} cannot be created, {folder} is not writable; choose another"
        )
    return problems


def _catalogue(settings: Settings) -> tuple[Catalogue | None, list[str]]:
    try:
        catalogue = settings.read_catalogue()
    except CatalogueError as error:
        return None, error.problems
    problem = lacking_prices(catalogue) if settings.reserve == "bound" else None
    return catalogue, [problem] if problem else []


def _history(settings: Settings, catalogue: Catalogue | None) -> tuple[LoadedHistory | None, list[str]]:
    """Load the history as a worker does; return it, or the reasons why a worker would not start."""
    try:
        if settings.history is None or not settings.history.exists():
            if settings.embedder is not None:
                load_plain_embedder(settings)
            return None, []
        loaded = load_history(settings)
    except (HistoryError, FolderError, FileNotFoundError) as error:
        return None, [f"history: {error}"]
    except (OSError, ValueError) as error:
        return None, [str(error)]
    if catalogue is None:
        return loaded, []
    return loaded, unusable_llms(catalogue.names, loaded.history.models, settings.exploration)


def _preset(settings: Settings, loaded: LoadedHistory | None) -> Preset | None:
    """Return the preset that a worker uses, or the requested one if a worker would not start."""
    return PRESETS.get(loaded.preset if loaded else settings.preset)


def _broker_problems(
    settings: Settings, catalogue: Catalogue | None, invalid: Collection[str], connect: bool
) -> tuple[list[str], list[str]]:
    """Return mistakes and notes about the broker and its topics."""
    if "bootstrap_servers" in invalid:
        return [], []
    if settings.bootstrap_servers is None:
        return ["bootstrap_servers: no broker is set; set KAFKA_BOOTSTRAP_SERVERS to host:port"], []
    if not connect or conflicting_settings(settings) or set(SECURITY) & set(invalid):
        return [], []
    try:
        admin = reach_broker(settings, BROKER_SECONDS)
    except BrokerUnreachable as error:
        return [str(error)], []
    except Exception as error:  # librdkafka rejects a configuration, for example an unreadable certificate
        return [
            f"bootstrap_servers: no client can be created for {settings.bootstrap_servers} ({error}); "
            f"correct {', '.join(SECURITY)}"
        ], []
    if catalogue is None or {"partitions", "topic_prefix"} & set(invalid):
        return [], []
    specs, existing = topic_specs(settings, catalogue), existing_partitions(admin)
    missing = [spec.name for spec in specs if spec.name not in existing]
    notes = []
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        notes = [f"topics: {missing[0]}{more} not created yet; run `python -m streams topics create`"]
    configs = read_topic_configs(admin, [spec.name for spec in specs if spec.name in existing])
    problems = topic_problems(specs, existing, configs)
    notes += added_partitions(specs, existing) + [
        f"topic {name}: {key} is {value} and should be {expected}; run `python -m streams topics create`"
        for name, entries in outdated_settings(specs, configs).items()
        for key, (value, expected) in entries.items()
    ]
    return problems + leaderless_problems(count_leaderless(admin, [spec.name for spec in specs])), notes


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
    invalid: Mapping[str, Any],
) -> EffectiveSetting:
    variables = BROKER_VARIABLES if name == "bootstrap_servers" else (PREFIX + name.upper(),)
    present = {key.upper() for key, value in environment.items() if value}
    if name in invalid:
        source = "default, for it is wrong"
    elif used := [variable for variable in variables if variable in present]:
        source = used[0]
    else:
        source = str(settings.catalogue) if name in section else "default"
    value = getattr(settings, name)
    text = "not set" if value is None else str(value)
    return EffectiveSetting(name, text, source, Settings.model_fields[name].description or "")
