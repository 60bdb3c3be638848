"""The catalogue in force: the newest version on its compacted topic, or the file that workers start with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson
import structlog
from confluent_kafka import Message

from routing.catalogue import Catalogue, Model
from routing.list_prices import Listed, PriceChange, first_listed, listed
from routing.plan import Plan
from streams.catalogue_change import as_planned, differences
from streams.following import TopicReader
from streams.kafka import reader_config
from streams.settings import Settings

log = structlog.get_logger(__name__)

CATALOGUE_KEY = b"catalogue"


@dataclass(frozen=True)
class CatalogueVersion:
    """A catalogue and its number; 0 is the file's.

    Parameters
    ----------
    version : int
    catalogue : Catalogue
    priced_by : mapping of str to (float or None, float or None), optional
        List prices that the history's costs are by. None of a file, and of what an older version of the
        router published: the plan in force tells them, or nothing has changed yet.
    """

    version: int
    catalogue: Catalogue
    priced_by: Listed | None = None

    def encode(self) -> bytes:
        """As a message's value."""
        told = {} if self.priced_by is None else {"priced_by": self.priced_by}
        return orjson.dumps({"version": self.version, "catalogue": self.catalogue.to_dict(), **told})

    @classmethod
    def decode(cls, value: bytes) -> CatalogueVersion:
        """What `encode` wrote, here or in an older version."""
        data = orjson.loads(value)
        return cls(data["version"], Catalogue.from_dict(data["catalogue"]), data.get("priced_by"))

    @property
    def list_prices(self) -> PriceChange:
        """Its prices, and the history's where it tells them."""
        return PriceChange(listed(self.catalogue), self.priced_by)

    def list_prices_since(self, file: Catalogue) -> PriceChange:
        """The same; where it does not tell the history's, they were a file's."""
        if self.priced_by is not None or not self.version:
            return self.list_prices
        return replace(self.list_prices, history=first_listed(listed(file), listed(self.catalogue)))


class CatalogueReader(TopicReader):
    """Follows the catalogue's topic.

    Parameters
    ----------
    settings : Settings
    on_change : callable
        Called in the reader's thread when a newer version is there.
    """

    def __init__(self, settings: Settings, on_change: Callable[[CatalogueVersion], None]) -> None:
        super().__init__(reader_config(settings), settings.topics.catalogue)
        self.base = settings.read_catalogue()
        self.latest = CatalogueVersion(0, self.base)
        self.models: dict[str, Model] = {}
        """Every LLM of any version by name: those that were removed are still named in topics."""
        self._remember(self.base)
        self._on_change = on_change

    def compare_file(self, plan: Plan) -> list[str]:
        """Say in the log what this worker's file has otherwise than what is in force; returns it."""
        latest = self.latest
        current = latest.catalogue if latest.version else as_planned(self.base, plan)
        if changes := [str(change) for change in differences(current, self.base)]:
            log.warning(
                "catalogue_file_differs", in_force=latest.version, changes=changes,
                fix="a file alone changes nothing: `python -m streams plan apply` it, or correct it",
            )  # fmt: skip
        return changes

    def _remember(self, catalogue: Catalogue) -> None:
        self.models = {**self.models, **{model.name: model for model in catalogue.models}}

    def _read(self, message: Message) -> None:
        value = message.value()
        if message.key() != CATALOGUE_KEY or value is None:
            return
        version = CatalogueVersion.decode(value)
        if version.version > self.latest.version:
            self._remember(version.catalogue)
            self.latest = version
            log.info("catalogue_in_force", version=version.version, models=len(version.catalogue.models))
            self._on_change(version)
