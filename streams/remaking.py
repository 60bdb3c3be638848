"""A decision made again: estimates and charges of one query, and the choice under given rights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from confluent_kafka import Message

from routing.account import Account
from routing.alignment import Alignment, align
from routing.decision import IntArray
from routing.estimators.base import Estimates, FloatArray
from routing.plan import Plan
from routing.policy import route
from streams.catalogue_versions import CATALOGUE_KEY, CatalogueVersion
from streams.charging import Charger, charge_bounds, charge_estimates
from streams.estimating import Estimating
from streams.exploring import to_explore
from streams.finding import Sighting
from streams.headers import headers_of
from streams.intake import Arrivals, QueryIntake
from streams.messages import Query
from streams.overflow import OverflowIntake
from streams.reservations import Reserved
from streams.scanning import Scanner
from streams.settings import Settings

UNLIMITED = np.int64(2**62)


@dataclass(frozen=True)
class Remade:
    """What a decision rests on, made again.

    Parameters
    ----------
    query : Query
    alignment : Alignment
    estimates : Estimates
        [1, M], in the plan's order.
    charge : ndarray of int64, shape [1, M]
        Picodollars that the query would reserve.
    explore : int
        The LLM that it shall measure, or negative.
    estimated_by : str
        Where the estimates come from, for people.
    """

    query: Query
    alignment: Alignment
    estimates: Estimates
    charge: IntArray
    explore: int
    estimated_by: str


class Remaker:
    """Makes decisions again, as a lane makes them.

    Parameters
    ----------
    settings : Settings
    estimating : Estimating or None
        What the workers estimate with; without it only the overflow lane's decisions can be made again.
    scanner : Scanner
    """

    def __init__(self, settings: Settings, estimating: Estimating | None, scanner: Scanner) -> None:
        self._settings, self._estimating, self._scanner = settings, estimating, scanner
        self._charger: Charger | None = None

    def remake(self, sighting: Sighting, source: Message | None, plan: Plan | None) -> Remade | None:
        """Estimates and charges of the query, in the plan's order; None when they cannot be made."""
        if source is None or plan is None or sighting.stage in ("refused", "waiting"):
            return None
        pool = sighting.lane == self._settings.partitions
        record = _Record(source)
        if pool:
            arrivals = OverflowIntake().take([record])
            alignment, by = align(None, plan), "the lane that deferred it"
        elif self._estimating is not None:
            own = self._estimating
            arrivals = QueryIntake(own.embedder, own.dimension, own.estimator).take([record])
            alignment = align(own.estimator.models, plan)
            by = f"history {own.history.digest()[:12]}"
        else:
            return None
        if not arrivals.queries:
            return None
        estimates = alignment.apply(arrivals.estimates)
        charge = self._charge(arrivals, estimates, plan)
        explore = to_explore(
            self._settings, alignment, arrivals, sighting.lane, np.array([sighting.offset]), charge
        )
        chosen = -1 if explore is None else int(explore[0])
        return Remade(arrivals.queries[0], alignment, estimates, charge, chosen, by)

    def _charge(self, arrivals: Arrivals, estimates: Estimates, plan: Plan) -> IntArray:
        if arrivals.charge is not None:
            models = len(plan.models)
            more = max(0, models - arrivals.charge.shape[1])
            return np.pad(arrivals.charge[:, :models], ((0, 0), (0, more)))
        if self._charger is None:
            self._charger = self._make_charger()
        return self._charger(arrivals.queries, estimates, plan.models).pico

    def _make_charger(self) -> Charger:
        if self._settings.reserve == "estimate":
            return charge_estimates
        models = {model.name: model for model in self._settings.read_catalogue().models}
        for message in self._scanner.read(self._scanner.places(self._settings.topics.catalogue)):
            if message.key() == CATALOGUE_KEY and (value := message.value()) is not None:
                models |= {model.name: model for model in CatalogueVersion.decode(value).catalogue.models}
        return charge_bounds(lambda: models, self._settings.default_max_tokens)

    def choose(
        self, plan: Plan, sighting: Sighting, again: Remade, rights: IntArray
    ) -> tuple[int, FloatArray]:
        """What the lane chooses when it may spend `rights` picodollars, and the scores of all LLMs, [M]."""
        granted = np.zeros_like(plan.granted)
        granted[sighting.lane, : len(rights)] = rights
        again_plan = replace(plan, granted=granted, target=np.full_like(granted, UNLIMITED))
        routed = route(
            Account.fresh(plan.period, len(plan.models)), again_plan, sighting.lane, again.estimates,
            np.array([sighting.offset]), charge=again.charge, seed=self._settings.seed,
            comparable=again.alignment.comparable,
            explore=np.array([again.explore]) if again.explore >= 0 else None,
        )  # fmt: skip
        return int(routed.choice[0]), routed.score[0]


def available_before(reserved: Reserved, offset: int) -> IntArray:
    """Picodollars that the lane could spend on each LLM just before the query at this offset, shape [M]."""
    earlier = reserved.offsets < offset
    spent = np.zeros_like(reserved.available)
    np.add.at(spent, reserved.model[earlier], reserved.charge[earlier])
    return np.asarray(reserved.available - spent, dtype=np.int64)


class _Record:
    """A message as a lane gets its records."""

    def __init__(self, message: Message) -> None:
        self.topic, self.partition = message.topic() or "", int(message.partition() or 0)
        self.offset, self.timestamp = int(message.offset() or 0), message.timestamp()[1]
        self.key, self.value, self.headers = message.key(), message.value(), tuple(headers_of(message))
