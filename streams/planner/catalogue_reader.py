"""The catalogue in force: the newest version on its compacted topic, or the file of the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog
from confluent_kafka import Message

from routing.budgets.catalogue import Catalogue
from routing.budgets.model import Model
from routing.policy.list_prices import Listed, list_prices_of
from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.follower import TopicReader
from streams.messages.catalogue import CATALOGUE_KEY, CatalogueVersion
from streams.messages.pause import ManualPause, paused_model
from streams.messages.top_up import TopUp, topped_up_counter
from streams.planner.catalogue_diff import catalogue_from_plan, differences

log = structlog.get_logger(__name__)


def prices_under(version: CatalogueVersion, plan: Plan) -> Listed:
    """Return the list prices in force, by LLM.

    Parameters
    ----------
    version : CatalogueVersion
        In force. While no catalogue is published, the plan's prices take precedence over those of this
        process's file, which may differ from the planner's.
    plan : Plan
    """
    if version.version:
        return list_prices_of(version.catalogue)
    return {**list_prices_of(version.catalogue), **plan.priced_by}


def decode_version(message: Message) -> CatalogueVersion | None:
    """Decode a message of the catalogue's topic; None if it carries no catalogue."""
    value = message.value()
    if message.key() != CATALOGUE_KEY or value is None:
        return None
    return CatalogueVersion.decode(value)


def newest_version(base: CatalogueVersion, messages: Iterable[Message]) -> CatalogueVersion:
    """Return the newest catalogue among messages of its topic, or `base` if none is newer."""
    newest = base
    for message in messages:
        version = decode_version(message)
        if version is not None and version.version > newest.version:
            newest = version
    return newest


class CatalogueReader(TopicReader):
    """Follows the catalogue's topic.

    Parameters
    ----------
    settings : Settings
    on_change : callable
        Called in the reader's thread after a newer version was read.
    """

    def __init__(self, settings: Settings, on_change: Callable[[CatalogueVersion], None]) -> None:
        super().__init__(reader_config(settings), settings.topics.catalogue)
        self.base = settings.read_catalogue()
        self.latest = CatalogueVersion(0, self.base)
        self.models: dict[str, Model] = {}
        """LLMs by name, of this process's file and of every version that it has read.

        The topic is compacted, so plans and ledgers may name LLMs of older versions."""
        self.pauses: Mapping[str, ManualPause] = {}
        """Pauses that operators set, by LLM; replaced, never changed."""
        self.top_ups: Mapping[str, TopUp] = {}
        """Raised limits, by name of the counter; replaced, never changed."""
        self._remember(self.base)
        self._on_change = on_change

    def prices(self, plan: Plan) -> Listed:
        """Return the list prices in force, by LLM; see `prices_under`."""
        return prices_under(self.latest, plan)

    def compare_file(self, plan: Plan) -> list[str]:
        """Log and return the differences between this worker's file and the catalogue in force."""
        latest = self.latest
        current = latest.catalogue if latest.version else catalogue_from_plan(self.base, plan)
        if changes := [str(change) for change in differences(current, self.base)]:
            log.warning(
                "catalogue_file_differs",
                in_force=latest.version,
                changes=changes,
                fix="a file alone changes nothing: `python -m streams plan apply` it, or correct it",
            )
        return changes

    def _remember(self, catalogue: Catalogue) -> None:
        self.models = {**self.models, **{model.name: model for model in catalogue.models}}

    def _read(self, message: Message) -> None:
        if (name := paused_model(message.key())) is not None:
            self._read_pause(name, message.value())
            return
        if (name := topped_up_counter(message.key())) is not None:
            if (value := message.value()) is not None:
                self.top_ups = {**self.top_ups, name: TopUp.decode(value)}
            return
        version = newest_version(self.latest, [message])
        if version is not self.latest:
            self._remember(version.catalogue)
            self.latest = version
            if self.ready:
                self._report()
            self._on_change(version)

    def _read_pause(self, name: str, value: bytes | None) -> None:
        pauses = {other: pause for other, pause in self.pauses.items() if other != name}
        self.pauses = pauses if value is None else {**pauses, name: ManualPause.decode(value)}

    def _caught_up(self) -> None:
        if self.latest.version:
            self._report()

    def _report(self) -> None:
        models = len(self.latest.catalogue.models)
        log.info("catalogue_in_force", version=self.latest.version, models=models)
