"""Checks of plain data, such as a YAML file, with errors that name the field, the value and the fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CatalogueError(ValueError):
    """An invalid catalogue; `problems` lists all reasons."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def shown(value: object) -> str:
    """Return a value for an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_amount(value: object, field: str, maximum: float, minimum: float = 0.0) -> list[str]:
    """Return a problem if a value is neither None nor a number from `minimum` to `maximum`."""
    if value is None:
        return []
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and minimum <= value <= maximum:  # type: ignore[operator]  # false for NaN
        return []
    hint = " (in YAML, 1e-3 is a text: write 1.0e-3)" if isinstance(value, str) else ""
    return [f"{field}: {shown(value)} must be a number from {minimum:g} to {maximum:.0f}{hint}"]


def check_whole(value: object, field: str, minimum: int, maximum: int) -> list[str]:
    """Return a problem if a value is neither None nor a whole number from `minimum` to `maximum`."""
    if value is None:
        return []
    if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
        return []
    return [f"{field}: {shown(value)} must be a whole number from {minimum} to {maximum}"]


def check_text(value: object, field: str) -> list[str]:
    """Return a problem if a value is not a text with visible characters."""
    if not isinstance(value, str) or not value.strip():
        return [f"{field}: {shown(value)} must be a text that is not empty"]
    if any("\ud800" <= character <= "\udfff" for character in value):
        return [f"{field}: {shown(value)} has half of a pair of characters, which no file can hold"]
    return []


def unknown_keys(data: Mapping[Any, Any], valid: tuple[str, ...], field: str) -> list[str]:
    """Return a problem for each key that is not valid."""
    keys = ", ".join(valid)
    return [f"{field}: {shown(key)} is unknown; valid keys are {keys}" for key in data if key not in valid]
