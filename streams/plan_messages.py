"""The plan as a message on the compacted topic."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import orjson

from routing.plan import Plan

PLAN_KEY = b"plan"

_DTYPES: dict[str, Any] = {
    "active": bool, "budgets": np.int64, "prices": np.float64, "granted": np.int64, "target": np.int64
}  # fmt: skip


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """The plan as plain data; amounts are picodollars, prices quality per USD."""
    return {field.name: getattr(plan, field.name) for field in fields(Plan)}


def plan_from_dict(data: dict[str, Any]) -> Plan:
    """What `plan_to_dict` made, here or in another version: fields that are not known are left out."""
    data = {one.name: data[one.name] for one in fields(Plan) if one.name in data}
    changed = {name: np.array(data[name], dtype=dtype) for name, dtype in _DTYPES.items()}
    lanes, models = len(data["granted"]), len(data["models"])
    for name in ("granted", "target"):
        changed[name] = changed[name].reshape(lanes, models)
    return Plan(**{**data, **changed, "models": tuple(data["models"])})


def encode_plan(plan: Plan) -> bytes:
    """The plan as a message's value."""
    return orjson.dumps(plan_to_dict(plan), option=orjson.OPT_SERIALIZE_NUMPY)


def decode_plan(value: bytes) -> Plan:
    """What `encode_plan` wrote."""
    return plan_from_dict(orjson.loads(value))


def same_but_for_rights(one: Plan, other: Plan) -> bool:
    """Nothing that decides differs but how much lanes may spend, which their reservations write down."""
    rights = {"revision", "granted", "target", "created_at", "until", "solved_from"}
    names = [field.name for field in fields(Plan) if field.name not in rights]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
