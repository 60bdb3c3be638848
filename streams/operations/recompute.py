"""Recomputation of a decision: estimates and charges of one query, and the choice under a given grant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from confluent_kafka import Message

from routing.arrays import (
    FloatArray,
    IntArray,
)
from routing.budgets.catalogue import Catalogue
from routing.budgets.cost_quantile import quantile_level
from routing.estimators.base import (
    Estimates,
)
from routing.policy.account import Account
from routing.policy.alignment import Alignment, align
from routing.policy.exploration import Exploration
from routing.policy.list_prices import Listed, list_prices_of
from routing.policy.plan import Plan
from routing.policy.policy import route
from streams.config.settings import Settings
from streams.kafka.scanner import Scanner
from streams.ledger.reservations import ReservationBatch
from streams.messages.catalogue import CatalogueVersion
from streams.messages.headers import headers_of
from streams.messages.query import Query
from streams.operations.query_search import RecordedDecision
from streams.planner.catalogue_reader import decode_version, prices_under
from streams.router.batch import (
    IntakeBatch,
)
from streams.router.charges import Charger, charge_bounds, charge_estimates, charge_quantiles, pad_deferred
from streams.router.estimation import Estimation
from streams.router.exploration import choose_explorations
from streams.router.overflow_intake import OverflowIntake
from streams.router.query_intake import (
    QueryIntake,
)
from streams.router.query_terms import BatchTerms, LLMAbilities, batch_terms
from streams.router.token_counts import bounded_tokens, expected_tokens

UNLIMITED = np.int64(2**62)


@dataclass(frozen=True)
class RecomputedDecision:
    """Inputs of a decision, recomputed.

    Parameters
    ----------
    query : Query
    alignment : Alignment
    estimates : Estimates
        [1, M], in the plan's order.
    charge : ndarray of int64, shape [1, M]
        Picodollars that the query would reserve.
    explore : Exploration or None
    estimated_by : str
        Source of the estimates, for people.
    terms : BatchTerms
        Weight, eligible LLMs and values of groups.
    """

    query: Query
    alignment: Alignment
    estimates: Estimates
    charge: IntArray
    explore: Exploration | None
    estimated_by: str
    terms: BatchTerms

    @property
    def is_explored(self) -> bool:
        """True if the query explores an LLM."""
        return self.explore is not None and int(self.explore.model[0]) >= 0


class DecisionRecomputer:
    """Recomputes decisions in the way a lane computes them.

    Parameters
    ----------
    settings : Settings
    estimating : Estimation or None
        Estimation of the workers. Without it only decisions of the overflow lane can be recomputed.
    scanner : Scanner
    """

    def __init__(self, settings: Settings, estimating: Estimation | None, scanner: Scanner) -> None:
        self._settings, self._estimating, self._scanner = settings, estimating, scanner
        self._charger: Charger | None = None
        self._catalogue: Catalogue | None = None

    def recompute(
        self, recorded: RecordedDecision, source: Message | None, plan: Plan | None
    ) -> RecomputedDecision | None:
        """Return estimates and charges of the query in the plan's order, or None if they are unknown."""
        if source is None or plan is None or recorded.stage in ("refused", "waiting"):
            return None
        if recorded.attempt > 1 or recorded.expired:
            return None
        pool = recorded.lane == self._settings.partitions
        record = _RecomputedRecord(source)
        if pool:
            arrivals = OverflowIntake(plan.clusters).decode([record])
            alignment, by = align(None, plan, plan.clusters), "the lane that deferred it"
        elif self._estimating is not None:
            own = self._estimating
            arrivals = QueryIntake(own.embedder, own.dimension, own.estimator, clusters=own.clusters).decode(
                [record]
            )
            alignment = align(own.estimator.models, plan, "" if own.clusters is None else own.clusters.digest)
            by = f"history {own.history.digest()[:12]}"
        else:
            return None
        if not arrivals.queries:
            return None
        estimates = alignment.correct(alignment.apply(arrivals.estimates))
        charge = self._charge(arrivals, estimates, plan)
        terms = self._terms(arrivals, estimates, charge, plan)
        offsets = np.array([recorded.offset])
        explore = choose_explorations(
            self._settings, plan, alignment, arrivals, recorded.lane, offsets, charge, terms.terms
        )
        return RecomputedDecision(arrivals.queries[0], alignment, estimates, charge, explore, by, terms)

    def _terms(self, arrivals: IntakeBatch, estimates: Estimates, charge: IntArray, plan: Plan) -> BatchTerms:
        """Return the terms of a query by the catalogue in force and this process's settings."""
        if self._catalogue is None:
            versions = self._versions()
            self._catalogue = versions[max(versions)].catalogue
        catalogue, settings = self._catalogue, self._settings
        models = {model.name: model for model in catalogue.models}
        abilities = LLMAbilities.of(plan.models, models, catalogue.allow)
        listed = list_prices_of(catalogue)
        counter = (
            bounded_tokens(settings.default_max_tokens)
            if settings.reserve == "bound"
            else expected_tokens(lambda plan: listed, settings.default_max_tokens)
        )
        count = partial(counter, plan=plan)
        return batch_terms(arrivals.queries, arrivals.records, plan, abilities, estimates, charge, count)

    def _versions(self) -> dict[int, CatalogueVersion]:
        versions = {0: CatalogueVersion(0, self._settings.read_catalogue())}
        for message in self._scanner.read(self._scanner.places(self._settings.topics.catalogue)):
            if (version := decode_version(message)) is not None:
                versions[version.version] = version
        return versions

    def _charge(self, arrivals: IntakeBatch, estimates: Estimates, plan: Plan) -> IntArray:
        if arrivals.charge is not None:
            return pad_deferred(arrivals.charge, len(plan.models))
        if self._charger is None:
            self._charger = self._make_charger()
        return self._charger(arrivals.queries, estimates, plan).pico

    def _make_charger(self) -> Charger:
        if self._settings.reserve == "estimate":
            return charge_estimates
        versions = self._versions()

        def prices(plan: Plan) -> Listed:
            if (version := versions.get(plan.catalogue)) is not None:
                return prices_under(version, plan)
            # compaction removed the plan's version: use the newest remaining price of each LLM
            newest = dict(plan.priced_by)
            for number in sorted(versions):
                newest |= list_prices_of(versions[number].catalogue)
            return newest

        fees = {
            model.name: model.request_fee or 0.0
            for number in sorted(versions)
            for model in versions[number].catalogue.models
        }
        level = quantile_level(self._settings.reserve)
        if level is not None and self._estimating is not None:
            return charge_quantiles(
                self._estimating.cost_quantile(level), prices, lambda name: fees.get(name, 0.0)
            )
        return charge_bounds(prices, self._settings.default_max_tokens, lambda name: fees.get(name, 0.0))

    def choose(
        self, plan: Plan, recorded: RecordedDecision, recomputed: RecomputedDecision, rights: IntArray
    ) -> tuple[int, FloatArray]:
        """Return the choice of a lane that may spend `rights`, and the scores, shape [M].

        Parameters
        ----------
        plan : Plan
        recorded : RecordedDecision
        recomputed : RecomputedDecision
        rights : ndarray of int64, shape [M] or [C]
            As `ReservationBatch.available`.
        """
        recorded_keys = None if recorded.reservations is None else recorded.reservations.counters
        if recorded_keys is not None and len(wide := plan.counters.with_keys(recorded_keys)) > len(
            plan.counters
        ):
            plan = plan.with_counters(wide)
        granted = np.zeros_like(plan.granted)
        if plan.per_llm:
            granted[recorded.lane, : len(rights)] = rights
        else:
            granted[recorded.lane] = UNLIMITED
        for key, amount in zip(recorded_keys or (), rights.tolist(), strict=False):
            granted[recorded.lane, plan.counters.column_of[key]] = amount
        plan_then = replace(plan, granted=granted, target=np.full_like(granted, UNLIMITED))
        decisions = route(
            Account.fresh(plan.period, len(plan.models), None if plan.per_llm else plan.counters),
            plan_then,
            recorded.lane,
            recomputed.estimates,
            np.array([recorded.offset]),
            charge=recomputed.charge,
            seed=self._settings.seed,
            comparable=recomputed.alignment.comparable,
            explore=recomputed.explore,
            terms=recomputed.terms.terms,
        )
        return int(decisions.choice[0]), decisions.score[0]


def available_before(
    reservations: ReservationBatch,
    offset: int,
    row: int | None = None,
    units: Mapping[str, str] | None = None,
) -> IntArray:
    """Return the amount that the lane could spend of each LLM's budget or counter just before the query.

    Parameters
    ----------
    reservations : ReservationBatch
    offset : int
    row : int, optional
        Row of the query, if it reserved something: batches of returned queries have no order of offsets.
    units : mapping of str to str, optional
        Unit of each budget, for reservations with counters.
    """
    earlier = reservations.offsets < offset if row is None else np.arange(len(reservations.offsets)) < row
    spent = np.zeros_like(reservations.available)
    if reservations.counters is None:
        np.add.at(spent, reservations.model[earlier], reservations.charge[earlier])
    else:
        unit_of = units or {}
        for place in np.flatnonzero(earlier).tolist():
            for position in reservations.columns[place].tolist():
                if position >= 0:
                    unit = unit_of.get(reservations.counters[position][0], "usd")
                    tokens = int(reservations.tokens[place]) if len(reservations.tokens) else 0
                    charge = int(reservations.charge[place])
                    spent[position] += charge if unit == "usd" else 1 if unit == "queries" else tokens
    return np.asarray(reservations.available - spent, dtype=np.int64)


class _RecomputedRecord:
    """A message in the form of a lane's records."""

    def __init__(self, message: Message) -> None:
        self.topic, self.partition = message.topic() or "", int(message.partition() or 0)
        self.offset, self.timestamp = int(message.offset() or 0), message.timestamp()[1]
        self.key, self.value, self.headers = message.key(), message.value(), tuple(headers_of(message))
