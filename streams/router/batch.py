"""Batches of one lane: records with estimates, then with decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from routing.arrays import IntArray
from routing.estimators.base import Estimates
from routing.policy.decision import DEFERRED
from routing.policy.plan import Plan
from routing.policy.policy import RoutingDecisions
from streams.ledger.record import LedgerRecord
from streams.messages.query import Query
from streams.messages.record import Record
from streams.messages.rejection import RejectedMessage
from streams.messages.routing_info import FIRST_ATTEMPT, Attempt
from streams.router.query_terms import BatchTerms


@dataclass(frozen=True)
class DecidedBatch:
    """A batch of one lane with its decisions.

    Parameters
    ----------
    plan : Plan
    lane : int
    arrivals : IntakeBatch
        n queries, and the rejected records.
    estimates : Estimates
        [n, M], in the order of the plan's LLMs.
    charge : ndarray of int64, shape [n, M]
        Picodollars.
    decisions : RoutingDecisions
    offsets : ndarray of int64, shape [n]
    answer_tokens : sequence of int or None, length n
        Tokens of an answer that `charge` pays for; None if the charge is an estimate.
    available : ndarray of int64, shape [K]
        Amount that the lane could spend of each counter before the first query was charged.
    terms : BatchTerms
        Weights, eligible LLMs and values of groups.
    uncorrected : Estimates
        [n, M]; `estimates` before their correction by reported quality.
    expired : ndarray of bool, shape [n], optional
        Queries whose deadline had passed; None without any.
    """

    plan: Plan
    lane: int
    arrivals: IntakeBatch
    estimates: Estimates
    charge: IntArray
    decisions: RoutingDecisions
    offsets: IntArray
    answer_tokens: Sequence[int | None]
    available: IntArray
    terms: BatchTerms
    uncorrected: Estimates
    expired: NDArray[np.bool_] | None = None

    def final_timestamps(self) -> list[int]:
        """Return the timestamps of the batch's decided and rejected queries, in milliseconds.

        Deferred queries are missing: the overflow lane decides them. Producers set the timestamps.
        """
        choices = self.decisions.choice.tolist()
        pairs = zip(self.arrivals.records, choices, strict=True)
        refused = [record.timestamp for record, _ in self.arrivals.refused]
        return [record.timestamp for record, choice in pairs if choice != DEFERRED] + refused


@dataclass
class IntakeBatch:
    """A batch of records, separated into queries and rejected records.

    Parameters
    ----------
    records : list of Record, length n
        Records of the queries.
    queries : list of Query, length n
    estimates : Estimates
        [n, M], in the order of the estimator's LLMs; for deferred queries, of the plan's.
    refused : list of (Record, RejectedMessage)
    charge : ndarray of int64, shape [n, M], optional
        Picodollars to reserve for deferred queries, computed when they were deferred.
    answer_tokens : list of int or None, length n
        Tokens of an answer that `charge` pays for; None if the charge is an estimate.
    sources : list of (partition, offset) or None, optional
        Positions on the topic of queries, for those that the overflow lane decides.
    attempts : list of Attempt, optional
        By default the first of every query.
    """

    records: list[Record]
    queries: list[Query]
    estimates: Estimates
    refused: list[tuple[Record, RejectedMessage]] = field(default_factory=list)
    charge: IntArray | None = None
    answer_tokens: list[int | None] = field(default_factory=list)
    sources: list[tuple[int, int]] | None = None
    attempts: list[Attempt] | None = None

    def attempt(self, row: int) -> Attempt:
        """Return the attempt of a query."""
        return FIRST_ATTEMPT if self.attempts is None else self.attempts[row]

    def expired(self, now: float) -> NDArray[np.bool_] | None:
        """Return the queries whose deadline has passed, shape [n]; None without any."""
        deadlines = [query.limits.deadline for query in self.queries]
        expired = [deadline is not None and deadline <= 1000 * now for deadline in deadlines]
        return np.array(expired) if any(expired) else None


@dataclass(frozen=True)
class LaneCommit:
    """One committed transaction of a lane.

    Parameters
    ----------
    before, after : LedgerRecord
        The lane's ledger record before and after the transaction.
    batch : DecidedBatch or None
        The decisions; None if the transaction decided no query, as during warm-up.
    returned_batch : DecidedBatch or None
        Decisions about returned queries, whose records have no timestamp of their own.
    """

    before: LedgerRecord
    after: LedgerRecord
    batch: DecidedBatch | None
    returned_batch: DecidedBatch | None = None


class Intake(Protocol):
    """Source of a lane's batches: new queries, or queries that lanes deferred."""

    models: tuple[str, ...] | None
    """LLMs of the estimates' columns. None: the plan's LLMs."""
    clusters: str
    """Digest of the task clusters of the estimates; empty without clusters."""

    def decode(self, records: Sequence[Record], *, remember: bool = False) -> IntakeBatch:
        """Decode and estimate records."""
        ...

    def forget(self) -> None:
        """Drop remembered estimates."""
        ...
