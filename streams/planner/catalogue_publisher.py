"""Compare a new catalogue with the one in force, and publish it as the next version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from routing.budgets.catalogue import Catalogue
from routing.budgets.schema import CatalogueError
from routing.policy.list_prices import Listed, PriceChange, baseline_prices, cost_factors, list_prices_of
from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.kafka.topic_access import TopicAccess
from streams.messages.catalogue import CATALOGUE_KEY, CatalogueVersion
from streams.messages.pause import ManualPause, pause_key
from streams.messages.top_up import TopUp, top_up_key
from streams.planner.catalogue_diff import catalogue_from_plan, differences, estimate_changes
from streams.planner.catalogue_reader import newest_version
from streams.planner.catalogue_rules import apply_mistakes
from streams.planner.plan_reader import newest_plan


@dataclass(frozen=True)
class CatalogueChange:
    """The difference between the catalogue in force and the next one.

    Parameters
    ----------
    current : CatalogueVersion
        In force.
    next : CatalogueVersion
        To publish. It carries the prices behind the history's costs, so that workers need no file for them.
    differences : list of str
        One line per difference, for people. Empty: nothing changes.
    """

    current: CatalogueVersion
    next: CatalogueVersion
    differences: list[str]


class CataloguePublisher:
    """Publishes catalogues, as the only publisher of the router.

    It fences other publishers before it reads the catalogue in force. If two run at the same time, one of
    them fails and no version is lost.

    Parameters
    ----------
    settings : Settings
    access : TopicAccess, optional
        By default, the settings' cluster.
    """

    def __init__(self, settings: Settings, access: TopicAccess | None = None) -> None:
        self._settings, self._access = settings, access or TopicAccess(settings)
        self._producer = self._access.open_producer("catalogue")

    def compare(self, catalogue: Catalogue, *, new_history: bool = False) -> CatalogueChange:
        """Compare a catalogue with the one in force.

        Parameters
        ----------
        catalogue : Catalogue
        new_history : bool
            Workers have a history whose costs are by this catalogue's prices.

        Raises
        ------
        CatalogueError
            No worker would start with this catalogue.
        """
        settings, topics = self._settings, self._settings.topics
        plan = newest_plan(self._access.read(topics.plans))
        if mistakes := apply_mistakes(settings, catalogue, plan):
            raise CatalogueError(mistakes)
        file = settings.read_catalogue()
        first = CatalogueVersion(0, catalogue_from_plan(file, plan))
        current = newest_version(first, self._access.read(topics.catalogue))
        prices, before = list_prices_of(catalogue), history_prices(current, plan, file)
        after = prices if new_history else baseline_prices(before, prices)
        lines = [
            *map(str, differences(current.catalogue, catalogue)),
            *estimate_changes(_cost_factors(current, plan, before), PriceChange(prices, after)),
        ]
        return CatalogueChange(current, CatalogueVersion(current.version + 1, catalogue, after), lines)

    def publish(self, version: CatalogueVersion) -> None:
        """Publish a version of the catalogue.

        Raises
        ------
        KafkaException
            Among others, another publisher has fenced this one.
        """
        with self._producer.transaction() as transaction:
            transaction.produce(self._settings.topics.catalogue, version.encode(), CATALOGUE_KEY, partition=0)

    def publish_pause(self, model: str, pause: ManualPause) -> None:
        """Publish the pause of an LLM, or its end."""
        with self._producer.transaction() as transaction:
            transaction.produce(
                self._settings.topics.catalogue, pause.encode(), pause_key(model), partition=0
            )

    def publish_top_up(self, counter: str, period: int, amount: int) -> int:
        """Raise a counter's limit for one period, on top of earlier top-ups of the same period.

        Parameters
        ----------
        counter : str
            Name of the counter.
        period : int
        amount : int
            In the counter's smallest unit.

        Returns
        -------
        int
            Total of the period's top-ups.
        """
        topic, key = self._settings.topics.catalogue, top_up_key(counter)
        total = amount
        for message in self._access.read(topic):
            if message.key() == key and (value := message.value()) is not None:
                last = TopUp.decode(value)
                total = amount + (last.amount if last.period == period else 0)
        with self._producer.transaction() as transaction:
            transaction.produce(topic, TopUp(period, total).encode(), key, partition=0)
        return total


def history_prices(current: CatalogueVersion, plan: Plan | None, file: Catalogue) -> Listed:
    """Return the prices behind the history's costs, with the first prices of LLMs that were added later.

    Parameters
    ----------
    current : CatalogueVersion
        In force.
    plan : Plan or None
        In force.
    file : Catalogue
        This process's catalogue file.
    """
    known = current.priced_by
    if known is None:
        known = current.list_prices_since(file).baseline_from(plan, current.version)
    return baseline_prices(known, list_prices_of(current.catalogue))


def _cost_factors(current: CatalogueVersion, plan: Plan | None, history: Listed) -> Mapping[str, float]:
    """Return the factors on the history's costs that are in force, by LLM."""
    if plan is not None and plan.catalogue == current.version:
        return plan.cost_factor
    return cost_factors(list_prices_of(current.catalogue), history)
