"""Prices and context windows of LLMs, from the maintained package `genai-prices`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from routing.budgets.model import Model

IMPORTED_FIELDS = ("input_price", "output_price", "cached_input_price", "request_fee", "context_window")
"""Fields of a `Model` that the package can fill. It knows no capabilities."""

_PRICE_KEYS = {
    "input_price": "input_mtok",
    "output_price": "output_mtok",
    "cached_input_price": "cache_read_mtok",
    "request_fee": "requests_kcount",
}


@dataclass(frozen=True)
class KnownPrices:
    """Entry of an LLM in `genai-prices`.

    Parameters
    ----------
    provider, model : str
        Names of the entry.
    fields : dict of str to float or int
        Values by the name of the `Model`'s field; fields that the entry lacks are missing.
    tiered : bool
        Whether long prompts have other prices, which `fields` does not have.
    """

    provider: str
    model: str
    fields: dict[str, float | int]
    tiered: bool


def find_prices(name: str, at: datetime, provider: str | None = None) -> KnownPrices | None:
    """Return the entry of an LLM, or None if the package does not know it.

    Parameters
    ----------
    name : str
        Name in the catalogue; the provider may be in front of it: `openai/gpt-4o`.
    at : datetime
        Time of the prices, with a time zone.
    provider : str, optional
        Name of the provider, such as `azure`. By default it follows from the name.

    Raises
    ------
    ModuleNotFoundError
        `genai-prices` is not installed.

    Examples
    --------
    >>> from datetime import UTC
    >>> find_prices("no-such-llm", datetime(2026, 1, 1, tzinfo=UTC)) is None
    True
    """
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    prefix, slash, bare_name = name.partition("/")
    attempts: list[tuple[str, str | None]] = [(name, provider)]
    if slash:
        attempts += [(bare_name, provider or prefix), (bare_name, provider)]
    for reference, reference_provider in attempts:
        try:
            vendor, model = snapshot.find_provider_model(reference, None, reference_provider, None)
        except LookupError:
            continue
        fields: dict[str, float | int] = {}
        tiered = False
        prices = model.get_prices(at)
        for field, key in _PRICE_KEYS.items():
            price: Any = getattr(prices, key, None)
            if price is not None:
                tiered |= hasattr(price, "tiers")
                usd = float(getattr(price, "base", price))
                fields[field] = usd / 1000 if field == "request_fee" else usd
        if model.context_window is not None:
            fields["context_window"] = int(model.context_window)
        return KnownPrices(vendor.id, model.id, fields, tiered)
    return None


def with_prices(model: Model, known: KnownPrices, *, overwrite: bool = False) -> tuple[Model, list[str]]:
    """Return an LLM with the fields of an entry, and a line for each change, for people.

    Parameters
    ----------
    model : Model
    known : KnownPrices
    overwrite : bool
        Whether fields that are set already change, too.
    """
    changes: dict[str, Any] = {}
    lines = []
    for field, value in known.fields.items():
        before = getattr(model, field)
        if before != value and (overwrite or before is None):
            changes[field] = value
            lines.append(f"{model.name}: {field} {'none' if before is None else f'{before:g}'} -> {value:g}")
    return replace(model, **changes), lines
