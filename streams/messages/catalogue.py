"""A version of the catalogue as a message on its compacted topic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from routing.budgets.catalogue import Catalogue
from routing.policy.list_prices import Listed, PriceChange, baseline_prices, list_prices_of

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
        """Decode a message's value, also one of an older version."""
        data = orjson.loads(value)
        return cls(data["version"], Catalogue.from_dict(data["catalogue"]), data.get("priced_by"))

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
