"""The plan as messages on the compacted topic: one for the plan, and one for each counter of a group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from routing.budgets.budget import Budget
from routing.budgets.counters import Counters
from routing.policy.pause import Pause
from routing.policy.plan import Plan
from routing.policy.price_origin import PriceOrigin

PLAN_KEY = b"plan"

COUNTER_PREFIX = b"plan/"
"""Begin of the key of a counter of a group; the rest is its column."""

_DTYPES: dict[str, Any] = {
    "active": bool,
    "budgets": np.int64,
    "prices": np.float64,
    "granted": np.int64,
    "target": np.int64,
    "open": bool,
}
_COUNTER_VECTORS = ("budgets", "prices", "open")
_COUNTER_MATRICES = ("granted", "target")


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Return the whole plan as plain data: amounts in the smallest unit, prices in quality per USD."""
    # with one budget per LLM, these follow from the other fields
    derived = {"counters", "open"} if plan.per_llm else set[str]()
    data = {field.name: getattr(plan, field.name) for field in fields(Plan) if field.name not in derived}
    if not plan.per_llm:
        counters = plan.counters
        data["counters"] = {
            "budgets": [_budget_to_dict(budget) for budget in counters.budgets],
            "keys": counters.keys,
        }
    return {**data, "solved_from": plan.solved_from.to_dict()}


def plan_from_dict(data: Mapping[str, Any]) -> Plan:
    """Return the plan of plain data, also of another version: unknown fields are ignored."""
    data = {field.name: data[field.name] for field in fields(Plan) if field.name in data}
    changed: dict[str, Any] = {
        name: np.array(data[name], dtype=dtype) for name, dtype in _DTYPES.items() if name in data
    }
    if "solved_from" in data:
        changed["solved_from"] = PriceOrigin.from_dict(data["solved_from"])
    changed["paused"] = {name: Pause(**pause) for name, pause in data.get("paused", {}).items()}
    models = tuple(data["models"])
    if "counters" in data:
        changed["counters"] = _counters(data["counters"], models)
    for name in _COUNTER_MATRICES:
        changed[name] = changed[name].reshape(len(data["granted"]), len(data["budgets"]))
    return Plan(**{**data, **changed, "models": models})


def encode_plan(plan: Plan) -> bytes:
    """Encode a whole plan as one value, for the log of plans."""
    return orjson.dumps(plan_to_dict(plan), option=orjson.OPT_SERIALIZE_NUMPY)


def decode_plan(value: bytes) -> Plan:
    """Decode a whole plan from a value of `encode_plan`."""
    return plan_from_dict(orjson.loads(value))


def _counters(data: Mapping[str, Any], models: tuple[str, ...]) -> Counters:
    budgets = tuple(Budget(**{**one, "models": tuple(one["models"])}) for one in data["budgets"])
    return Counters(budgets, models, tuple((name, value) for name, value in data["keys"]))


def _budget_to_dict(budget: Budget) -> dict[str, Any]:
    data = {field.name: getattr(budget, field.name) for field in fields(Budget)}
    return {name: value for name, value in data.items() if value is not None}


def same_but_for_rights(one: Plan, other: Plan) -> bool:
    """Return True if two plans decide alike, apart from grants, which reservations record anyway."""
    rights = {"revision", "granted", "target", "created_at", "until", "solved_from", "counters"}
    names = [field.name for field in fields(Plan) if field.name not in rights]
    return one.counters == other.counters and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


# ---- the compacted topic ----------------------------------------------------------------------------------


def plan_messages(plan: Plan, before: Plan | None) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield key and value of the messages of a plan: counters of groups that changed, then the plan.

    A counter whose column has gone, because a new period has fewer counters, is deleted.

    Parameters
    ----------
    plan : Plan
    before : Plan or None
        The plan on the topic; None to write all counters.
    """
    for column in _changed_columns(plan, before).tolist():
        yield COUNTER_PREFIX + b"%d" % column, _encode_counter(plan, column)
    if before is not None:
        now = range(_head_size(plan), len(plan.counters))
        for column in range(_head_size(before), len(before.counters)):
            if column not in now:
                yield COUNTER_PREFIX + b"%d" % column, None
    yield PLAN_KEY, _encode_head(plan)


class PlanAssembler:
    """Assembles plans from the messages of the compacted topic, in order.

    A plan's message is the last of its transaction, and says which counters belong to it.
    """

    def __init__(self) -> None:
        self._columns: dict[int, bytes] = {}

    def append(self, key: bytes | None, value: bytes | None) -> Plan | None:
        """Append a message; return the plan that it completes, or None."""
        if key is not None and key.startswith(COUNTER_PREFIX):
            column = int(key.removeprefix(COUNTER_PREFIX))
            if value is None:
                self._columns.pop(column, None)
            else:
                self._columns[column] = value
            return None
        if key != PLAN_KEY or value is None:
            return None
        return self._assemble(orjson.loads(value))

    def _assemble(self, head: dict[str, Any]) -> Plan | None:
        size = head.pop("size", None)
        if size is None:
            return plan_from_dict(head)
        fixed = len(head["budgets"])
        missing = [column for column in range(fixed, size) if column not in self._columns]
        if missing:
            return None  # compaction removed a counter that a later transaction has written again
        rows = [orjson.loads(self._columns[column]) for column in range(fixed, size)]
        head["counters"]["keys"] += [row["key"] for row in rows]
        for name in _COUNTER_VECTORS:
            head[name] += [row[name] for row in rows]
        lanes = len(head["granted"])
        for name in _COUNTER_MATRICES:
            matrix = np.zeros((lanes, size), dtype=np.int64)
            matrix[:, :fixed] = np.array(head[name], dtype=np.int64).reshape(lanes, fixed)
            for column, row in enumerate(rows, fixed):
                for lane, amount in row[name]:
                    matrix[lane, column] = amount
            head[name] = matrix
        return plan_from_dict(head)


def _head_size(plan: Plan) -> int:
    """Return the number of counters before the first one of a group, which the plan's own message has."""
    grouped = plan.counters.grouped
    return int(grouped.argmax()) if grouped.any() else len(grouped)


def _encode_head(plan: Plan) -> bytes:
    """Encode a plan without the counters that have messages of their own."""
    fixed = _head_size(plan)
    if fixed == len(plan.counters):
        return encode_plan(plan)
    data = plan_to_dict(plan) | {"size": len(plan.counters)}
    data["counters"]["keys"] = plan.counters.keys[:fixed]
    data |= {name: getattr(plan, name)[:fixed] for name in _COUNTER_VECTORS}
    data |= {name: np.ascontiguousarray(getattr(plan, name)[:, :fixed]) for name in _COUNTER_MATRICES}
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


def _encode_counter(plan: Plan, column: int) -> bytes:
    data: dict[str, Any] = {"key": plan.counters.keys[column]}
    data |= {name: getattr(plan, name)[column].item() for name in _COUNTER_VECTORS}
    for name in _COUNTER_MATRICES:
        amounts = getattr(plan, name)[:, column]
        data[name] = [[lane, int(amounts[lane])] for lane in np.flatnonzero(amounts).tolist()]
    return orjson.dumps(data)


def _changed_columns(plan: Plan, before: Plan | None) -> NDArray[np.intp]:
    """Return the columns with messages of their own that differ from those of the plan before."""
    size, first = len(plan.counters), _head_size(plan)
    changed = np.ones(size, dtype=bool)
    if before is not None and before.lanes == plan.lanes and _head_size(before) <= first:
        common = min(size, len(before.counters))
        keys = zip(plan.counters.keys[:common], before.counters.keys[:common], strict=True)
        same = np.array([one == other for one, other in keys], dtype=bool)
        for name in _COUNTER_VECTORS:
            same &= getattr(plan, name)[:common] == getattr(before, name)[:common]
        for name in _COUNTER_MATRICES:
            same &= (getattr(plan, name)[:, :common] == getattr(before, name)[:, :common]).all(0)
        changed[:common] = ~same
    changed[:first] = False
    return np.flatnonzero(changed)
