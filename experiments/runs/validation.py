"""Validation of the requested points and policies before the first run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from experiments.policies.registry import make_policy
from experiments.runs.runner import ExperimentData, ExperimentPoint
from routing.budgets.splits import SHARED, SPLITS

log = structlog.get_logger()


def runnable(
    experiment: ExperimentData,
    points: Sequence[ExperimentPoint],
    seeds: Sequence[int],
    *,
    points_given: bool,
    policies_given: bool,
) -> list[ExperimentPoint]:
    """Return the points that can be run; a requested point or policy that cannot is an error.

    Parameters
    ----------
    experiment : ExperimentData
    points : sequence of ExperimentPoint
    seeds : sequence of int
    points_given, policies_given : bool
        The user requested the points or policies. If false they are a study's defaults, and those that the
        data set does not allow are skipped with a warning.

    Raises
    ------
    ValueError
        A requested point or policy cannot be run, or none is left.
    FileNotFoundError
        Trained models that a policy needs are missing.
    """
    valid: list[ExperimentPoint] = []
    last: Exception | None = None
    for point in points:
        try:
            check_point(experiment, point)
        except ValueError as error:
            if points_given:
                raise
            log.warning("point_left_out", x=point.x, reason=str(error))
            last = error
            continue
        names = []
        for name in point.policies:
            try:
                for seed in seeds:
                    make_policy(name, experiment.context(point, seed))
                names.append(name)
            except (ValueError, FileNotFoundError) as error:
                if policies_given:
                    raise
                log.warning("policy_left_out", policy=name, x=point.x, reason=str(error))
                last = error
        if names:
            valid.append(replace(point, policies=tuple(names)))
    if not valid:
        raise last or ValueError("policies: give at least one")
    return valid


def check_point(experiment: ExperimentData, point: ExperimentPoint) -> None:
    """Check that the data set allows a point.

    Raises
    ------
    ValueError
        The data set has too few rows or LLMs, or a field is invalid.
    """
    rows, models = len(experiment.data), len(experiment.data.models)
    if not 0 < point.queries < rows:
        raise ValueError(
            f"queries: {point.queries} must be between 1 and {rows - 1}: the other rows are history"
        )
    remaining = rows - point.queries
    if point.history is not None and not 0 < point.history <= remaining:
        raise ValueError(f"history: {point.history} must be 1 to {remaining}, the rows outside the test set")
    if point.models is not None and not 1 <= point.models <= models:
        raise ValueError(f"models: {point.models} must be 1 to {models}, the number in the data set")
    if point.factor <= 0:
        raise ValueError(f"budget factor: {point.factor} must be positive")
    if point.how not in (*SPLITS, SHARED):
        raise ValueError(f"split: {point.how!r} is not one of {', '.join((*SPLITS, SHARED))}")
    if point.shares and point.how != SHARED:
        raise ValueError(f"groups: they divide one total; add --split {SHARED}")
    if bool(point.shares) != bool(point.group_by):
        raise ValueError("groups: give both --group-by and --groups")
    count = models if point.models is None else point.models
    if point.how == "extreme" and not 1 <= point.h < count:
        raise ValueError(f"split: extreme{point.h} needs more than {point.h} LLMs, the data set has {count}")
