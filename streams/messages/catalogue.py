"""A version of the catalogue as a message on its compacted topic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from routing.budgets.catalogue import Catalogue
from routing.policy.list_prices import Listed, PriceChange, baseline_prices, list_prices_of
from streams.messages.fields import decode_object
from streams.messages.internal_fields import count_field, invalid_field, object_field

CATALOGUE_KEY = b"catalogue"


@dataclass(frozen=True)
class CatalogueVersion:
    """A catalogue and its version; version 0 is the catalogue file.

    Parameters
    ----------
    version : int
    catalogue : Catalogue
    priced_by : mapping of str to (float or None, float or None), optional
        Input and output list prices at the time of the history's costs. None for a file and for messages of
        older versions of the router: then the plan in force has them, or no price has changed yet.
    """

    version: int
    catalogue: Catalogue
    priced_by: Listed | None = None

    def encode(self) -> bytes:
        """Return the message's value."""
        priced_by = {} if self.priced_by is None else {"priced_by": self.priced_by}
        return orjson.dumps({"version": self.version, "catalogue": self.catalogue.to_dict(), **priced_by})

    @classmethod
    def decode(cls, value: bytes) -> CatalogueVersion:
        """Decode a message's value, also one of an older version.

        Raises
        ------
        RejectedMessage
            No program of the router wrote it.
        CatalogueError
            The catalogue is invalid.
        """
        fields = decode_object(value)
        version, catalogue = count_field(fields, "version"), object_field(fields, "catalogue")
        listed = None if fields.get("priced_by") is None else object_field(fields, "priced_by")
        if listed is not None and not all(map(_is_price_pair, listed.values())):
            raise invalid_field(fields, "priced_by", "two list prices by LLM")
        return cls(version, Catalogue.from_dict(catalogue), listed)

    @property
    def list_prices(self) -> PriceChange:
        """List prices of the catalogue, and of the history if the message has them."""
        return PriceChange(list_prices_of(self.catalogue), self.priced_by)

    def list_prices_since(self, file: Catalogue) -> PriceChange:
        """Return the list prices; if the message has none of the history, take those of the file."""
        if self.priced_by is not None or not self.version:
            return self.list_prices
        return replace(
            self.list_prices, history=baseline_prices(list_prices_of(file), list_prices_of(self.catalogue))
        )


def _is_price_pair(prices: object) -> bool:
    """Return whether a value is an input and an output price, each a number or None."""
    return (
        isinstance(prices, list)
        and len(prices) == 2
        and all(price is None or type(price) in (int, float) for price in prices)
    )
