"""The planner's part of the settings."""

from __future__ import annotations

from routing.budgets.period import Period
from routing.fitting.presets import PRESETS, Preset
from routing.fitting.saved_fit import (
    fit_facts,
)
from routing.planning.sample_size import few_samples
from routing.planning.schedule import PlanningSettings
from streams.config.settings import Settings


def planning_settings(settings: Settings, period: Period | None = None) -> PlanningSettings:
    """Return the settings of the planner.

    Parameters
    ----------
    settings : Settings
    period : Period, optional
        Of the catalogue. It precedes `horizon` and `period_seconds` of the settings.
    """
    own = PlanningSettings(
        horizon=settings.horizon,
        period_seconds=settings.period_seconds,
        eps=settings.eps,
        warmup=settings.warmup,
        resolve=settings.resolve,
        resolve_every=settings.resolve_every,
        resolve_late=settings.resolve_late,
        resolve_tail=settings.resolve_tail,
        resolve_window=settings.resolve_window,
        solver=settings.solver,
        mix=settings.mix,
        top_up_samples=settings.top_up_samples,
    )
    return own.with_period(period)


def preset_in_force(settings: Settings) -> Preset:
    """Return the preset of the settings; `auto` is the preset of a fitted history, otherwise `paper`."""
    name = settings.preset
    if name == "auto":
        try:
            name = "paper" if settings.history is None else fit_facts(settings.history).preset  # type: ignore[assignment]
        except (OSError, ValueError, TypeError):
            name = "paper"
    return PRESETS[name]


def few_samples_warning(settings: Settings, models: int, period: Period | None = None) -> str | None:
    """Return the warning of `routing.planning.sample_size.few_samples` for settings and their preset.

    Parameters
    ----------
    settings : Settings
        As they are set, without the preset's values.
    models : int
        M, LLMs of the catalogue.
    period : Period, optional
        Of the catalogue.
    """
    in_force = settings.with_preset(preset_in_force(settings).planning)
    return few_samples(planning_settings(in_force, period), models)
