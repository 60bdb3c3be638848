"""The routing pass: charge and decide one batch of one lane."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from routing.arrays import IntArray
from routing.budgets.model import Model
from routing.estimators.base import Estimates
from routing.policy.account import Account
from routing.policy.alignment import Alignment, align
from routing.policy.decision import random_keys
from routing.policy.exploration import Exploration
from routing.policy.pause import admitted, test_shares, tests
from routing.policy.plan import Plan
from routing.policy.policy import RoutingDecisions, route
from streams.config.topic_names import Topics
from streams.ledger.record import LedgerRecord
from streams.planner.catalogue_reader import CatalogueReader
from streams.router.batch import DecidedBatch, IntakeBatch
from streams.router.charges import charge_batch
from streams.router.context import DecisionContext
from streams.router.exploration import choose_explorations
from streams.router.query_terms import BatchTerms, LLMAbilities, batch_terms
from streams.router.sessions import SessionMemory


class PlanColumns:
    """The columns of a plan, computed once per plan.

    Parameters
    ----------
    models : tuple of str or None
        LLMs of the intake's columns. None: the columns are the plan's.
    topics : Topics
    clusters : str
        Digest of the task clusters of the estimates.
    """

    def __init__(self, models: tuple[str, ...] | None, topics: Topics, clusters: str = "") -> None:
        self._models, self._topics, self._clusters = models, topics, clusters
        self._aligned: tuple[Plan, Alignment] | None = None
        self._named: tuple[Plan, list[str]] | None = None
        self._abilities: tuple[tuple[str, ...], object, LLMAbilities] | None = None

    def alignment(self, plan: Plan) -> Alignment:
        """Return the alignment of the intake's columns with the plan's."""
        if self._aligned is None or self._aligned[0] is not plan:
            self._aligned = (plan, align(self._models, plan, self._clusters))
        return self._aligned[1]

    def llm_topics(self, plan: Plan) -> list[str]:
        """Return the topics of the plan's LLMs, in its order."""
        if self._named is None or self._named[0] is not plan:
            # derived from names alone: a plan keeps LLMs that the catalogue no longer has
            self._named = (plan, [self._topics.llm(Model(name).slug) for name in plan.models])
        return self._named[1]

    def abilities(self, plan: Plan, catalogue: CatalogueReader) -> LLMAbilities:
        """Return what the plan's LLMs can do by the catalogue in force."""
        latest, known = catalogue.latest, self._abilities
        if known is None or known[0] != plan.models or known[1] is not latest:
            allow = latest.catalogue.allow
            self._abilities = known = (
                plan.models,
                latest,
                LLMAbilities.of(plan.models, catalogue.models, allow),
            )
        return known[2]


def decide_batch(
    context: DecisionContext,
    columns: PlanColumns,
    plan: Plan,
    record: LedgerRecord,
    arrivals: IntakeBatch,
    sessions: SessionMemory | None = None,
) -> DecidedBatch:
    """Charge and decide the queries of a batch.

    Parameters
    ----------
    context : DecisionContext
    columns : PlanColumns
    plan : Plan
    record : LedgerRecord
        The lane's record in the plan's period, before the batch.
    arrivals : IntakeBatch
    sessions : SessionMemory, optional
        For stickiness: other LLMs than a session's last one cost more.
    """
    lane = record.lane
    offsets = np.fromiter((r.offset for r in arrivals.records), np.int64, len(arrivals.records))
    alignment = columns.alignment(plan)
    uncorrected = alignment.apply(arrivals.estimates)
    estimates = alignment.correct(uncorrected)
    expired = arrivals.expired(context.clock())
    charges = charge_batch(context.charge, arrivals, estimates, plan)
    allowed = admitted(plan.paused, plan.models, random_keys(context.settings.seed + 2, lane, offsets))
    terms = terms_of_batch(context, columns, plan, arrivals, estimates, charges.pico, expired)
    explore = choose_explorations(
        context.settings, plan, alignment, arrivals, lane, offsets, charges.pico, terms.terms
    )
    tested = None
    if allowed is not None:
        tested = tests(plan.paused, plan.models, allowed)
        explore = _testing(explore, tested, len(plan.models))
        eligible = allowed if terms.terms.eligible is None else terms.terms.eligible & allowed
        rules = [*terms.rules, ("paused", allowed)]
        terms = replace(terms, terms=replace(terms.terms, eligible=eligible), rules=rules)
    decisions = route(
        record.account,
        plan,
        lane,
        _with_switch_costs(context, plan, arrivals, estimates, sessions),
        offsets,
        charge=charges.pico,
        seed=context.settings.seed,
        comparable=alignment.comparable,
        explore=explore,
        terms=terms.terms,
    )
    if tested is not None:
        decisions = _with_test_shares(decisions, plan, tested)
    counters = decisions.account.counters
    before = record.account if counters is None else record.account.aligned(counters)
    available = released(before, plan, lane).available(plan.lane_columns(lane, counters).granted)
    return DecidedBatch(
        plan,
        lane,
        arrivals,
        estimates,
        charges.pico,
        decisions,
        offsets,
        charges.answer_tokens,
        available,
        terms,
        uncorrected,
        expired,
    )


def _testing(explore: Exploration | None, tested: IntArray, models: int) -> Exploration:
    """Return the explorations with the tests of paused LLMs, which precede them."""
    if explore is None:
        return Exploration(tested, np.zeros((len(tested), models)))
    return Exploration(np.where(tested >= 0, tested, explore.model), explore.share)


def _with_test_shares(decisions: RoutingDecisions, plan: Plan, tested: IntArray) -> RoutingDecisions:
    """Return the decisions with probabilities that know that tests of paused LLMs are random."""
    shares = test_shares(plan.paused, plan.models)
    if not shares.any():
        return decisions
    probability = np.ones(len(tested)) if decisions.probability is None else decisions.probability
    # a test that cannot pay is followed by the best other LLM, as without the test
    is_test = (tested >= 0) & (decisions.choice == tested)
    return replace(
        decisions, probability=np.where(is_test, shares[tested], probability * (1.0 - shares.sum()))
    )


def _with_switch_costs(
    context: DecisionContext,
    plan: Plan,
    arrivals: IntakeBatch,
    estimates: Estimates,
    sessions: SessionMemory | None,
) -> Estimates:
    """Return the estimates that decide: the costs include contexts that are not cached."""
    if sessions is None:
        return estimates
    queries, records, known = arrivals.queries, arrivals.records, context.catalogue.models
    costs = sessions.switch_costs(queries, records, plan.models, known)
    return estimates if costs is None else Estimates(estimates.quality, estimates.cost + costs)


def terms_of_batch(
    context: DecisionContext,
    columns: PlanColumns,
    plan: Plan,
    arrivals: IntakeBatch,
    estimates: Estimates,
    charge: IntArray,
    expired: NDArray[np.bool_] | None = None,
) -> BatchTerms:
    """Return the terms of a batch: weights, eligible LLMs, tokens and values of groups.

    Parameters
    ----------
    context : DecisionContext
    columns : PlanColumns
    plan : Plan
    arrivals : IntakeBatch
    estimates : Estimates
        [n, M], in the plan's order.
    charge : ndarray of int64, shape [n, M]
        Picodollars.
    expired : ndarray of bool, shape [n], optional
        Queries that no LLM may answer, because their deadline has passed.
    """
    tried = None if arrivals.attempts is None else [attempt.tried for attempt in arrivals.attempts]
    count = partial(context.count_tokens, plan=plan)
    abilities = columns.abilities(plan, context.catalogue)
    return batch_terms(
        arrivals.queries, arrivals.records, plan, abilities, estimates, charge, count, tried, expired
    )


def released(account: Account, plan: Plan, lane: int) -> Account:
    """Return a lane's account after giving back grants beyond its targets."""
    columns = plan.lane_columns(lane, account.counters)
    return account.released_to(columns.granted, columns.target)
