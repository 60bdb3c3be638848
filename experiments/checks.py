"""Everything that a command asks for is looked at before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from experiments.registry import make_policy
from experiments.running import Laboratory, Setting
from routing.budgets import SPLITS

log = structlog.get_logger()


def runnable(
    laboratory: Laboratory,
    settings: Sequence[Setting],
    seeds: Sequence[int],
    *,
    points_given: bool,
    policies_given: bool,
) -> list[Setting]:
    """The settings that can be run; what was asked for and cannot be run is an error.

    Parameters
    ----------
    laboratory : Laboratory
    settings : sequence of Setting
    seeds : sequence of int
    points_given, policies_given : bool
        Asked for, and not a study's defaults: of those, what this data set cannot have is left out with a
        warning.

    Raises
    ------
    ValueError
        A point or policy that was asked for cannot be run, or nothing is left.
    FileNotFoundError
        Trained models that a policy needs are not there.
    """
    out: list[Setting] = []
    last: Exception | None = None
    for setting in settings:
        try:
            check_point(laboratory, setting)
        except ValueError as error:
            if points_given:
                raise
            log.warning("point_left_out", x=setting.x, reason=str(error))
            last = error
            continue
        names = []
        for name in setting.policies:
            try:
                for seed in seeds:
                    make_policy(name, laboratory.context(setting, seed))
                names.append(name)
            except (ValueError, FileNotFoundError) as error:
                if policies_given:
                    raise
                log.warning("policy_left_out", policy=name, x=setting.x, reason=str(error))
                last = error
        if names:
            out.append(replace(setting, policies=tuple(names)))
    if not out:
        raise last or ValueError("policies: none was given")
    return out


def check_point(laboratory: Laboratory, setting: Setting) -> None:
    """Whether the data set has such a point.

    Raises
    ------
    ValueError
        It has too few rows or LLMs, or a field has no meaning.
    """
    rows, models = len(laboratory.data), len(laboratory.data.models)
    if not 0 < setting.queries < rows:
        raise ValueError(
            f"queries: {setting.queries} must be between 1 and {rows - 1}: the other rows are history"
        )
    left = rows - setting.queries
    if setting.history is not None and not 0 < setting.history <= left:
        raise ValueError(f"history: {setting.history} must be 1 to {left}, the rows that are no test queries")
    if setting.models is not None and not 1 <= setting.models <= models:
        raise ValueError(f"models: {setting.models} must be 1 to {models}, those of the data set")
    if setting.factor <= 0:
        raise ValueError(f"budget factor: {setting.factor} must be positive")
    if setting.how not in SPLITS:
        raise ValueError(f"split: {setting.how!r} is not one of {', '.join(SPLITS)}")
    count = models if setting.models is None else setting.models
    if setting.how == "extreme" and not 1 <= setting.h < count:
        raise ValueError(f"split: extreme{setting.h} needs more than {setting.h} LLMs, there are {count}")
