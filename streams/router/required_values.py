"""Rejection of queries without the value that a budget with `group_by` and `required: true` asks for."""

from __future__ import annotations

import numpy as np

from routing.budgets.budget import MAX_VALUE_CHARACTERS, Budget, value_of
from routing.budgets.schema import shown
from routing.policy.plan import Plan
from streams.messages.group_value import HEADER, field_value
from streams.messages.query import Query
from streams.messages.record import Record
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.router.batch import IntakeBatch


def without_value_refused(arrivals: IntakeBatch, plan: Plan) -> IntakeBatch:
    """Return a batch of new queries in which those without a required value are refused.

    Parameters
    ----------
    arrivals : IntakeBatch
        As `QueryIntake` decodes it: without charges, sources or attempts.
    plan : Plan
        In force. Its budgets say which values are required; budgets that were removed require nothing.
    """
    asking = [one for one in plan.counters.budgets if one.required and one.group_by and one.models]
    if not asking:
        return arrivals
    refused, keep = list(arrivals.refused), []
    for row, (query, record) in enumerate(zip(arrivals.queries, arrivals.records, strict=True)):
        if (error := _missing_value(query, record, asking)) is None:
            keep.append(row)
        else:
            refused.append((record, error))
    if len(keep) == len(arrivals.queries):
        return arrivals
    return IntakeBatch(
        [arrivals.records[row] for row in keep],
        [arrivals.queries[row] for row in keep],
        arrivals.estimates.rows(np.array(keep, dtype=np.intp)),
        refused,
    )


def _missing_value(query: Query, record: Record, budgets: list[Budget]) -> RejectedMessage | None:
    """Return the rejection of a query by the first budget whose value it lacks; None if it has all."""
    for budget in budgets:
        field = budget.group_by or ""
        raw = field_value(query, record.headers, field)
        if not value_of(raw):
            return RejectedMessage(
                RejectionReason.NO_GROUP_VALUE,
                field,
                shown=_described(raw, field),
                limit=MAX_VALUE_CHARACTERS,
                budget=budget.name,
            )
    return None


def _described(raw: object, field: str) -> str:
    """Return the value for the error; a container by its type, because its content may be large."""
    if raw is None:
        return "is missing, or not UTF-8;" if field.startswith(HEADER) else "is missing or null;"
    if isinstance(raw, dict | list):
        return type(raw).__name__
    return f"{shown(raw)}, of {len(raw)} characters," if isinstance(raw, str) else shown(raw)
