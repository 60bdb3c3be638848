"""The catalogue in force: the newest version on its compacted topic, or the file that workers start with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import orjson
import structlog
from confluent_kafka import Message

from routing.catalogue import Catalogue, Model
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
    """

    version: int
    catalogue: Catalogue

    def encode(self) -> bytes:
        """As a message's value."""
        return orjson.dumps({"version": self.version, "catalogue": self.catalogue.to_dict()})

    @classmethod
    def decode(cls, value: bytes) -> CatalogueVersion:
        """What `encode` wrote."""
        data = orjson.loads(value)
        return cls(data["version"], Catalogue.from_dict(data["catalogue"]))

    def cost_factors(self, base: Catalogue) -> dict[str, float]:
        """How much list prices have changed since the catalogue that the history was priced by.

        The mean of the ratios of input and output price; only LLMs whose prices changed.
        """
        before = {model.name: model for model in base.models}
        factors = {}
        for model in self.catalogue.models:
            ratios = [
                new / old
                for new, old in _prices(model, before.get(model.name, model))
                if new is not None and old
            ]
            if ratios and any(ratio != 1.0 for ratio in ratios):
                factors[model.name] = sum(ratios) / len(ratios)
        return factors


def _prices(new: Model, old: Model) -> list[tuple[float | None, float | None]]:
    return [(new.input_price, old.input_price), (new.output_price, old.output_price)]


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
