"""A lane's account within a period: what it released, charged and settled, in picodollars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from routing.decision import DEFERRED, UNSERVED, IntArray

MOST = 2**62
"""Picodollars at which charges stop: half of what int64 holds, 4.6 million USD."""


@dataclass(frozen=True)
class Account:
    """Counts and money of one lane in one period; every array is int64 of shape [M].

    Parameters
    ----------
    period : int
        The period that all of it belongs to.
    released : ndarray
        Rights given back so far; only grows.
    charged : ndarray
        Open reservations plus what settled queries really cost. The lane may spend
        granted - released - charged.
    reserved : ndarray
        Reservations ever made, settled or not.
    settled : ndarray
        What settled queries really cost.
    served, settlements, lapsed : ndarray
        Queries routed to each LLM; those settled; those whose outcome never came in time.
    arrived, unserved, deferred, dead : int
        Queries that the lane took in, left unserved, passed to the overflow lane, refused.
    """

    period: int
    released: IntArray
    charged: IntArray
    reserved: IntArray
    settled: IntArray
    served: IntArray
    settlements: IntArray
    lapsed: IntArray
    arrived: int = 0
    unserved: int = 0
    deferred: int = 0
    dead: int = 0

    @classmethod
    def fresh(cls, period: int, models: int) -> Account:
        """An account in which nothing has happened."""
        vectors: dict[str, Any] = {name: np.zeros(models, dtype=np.int64) for name in VECTORS}
        return cls(period, **vectors)

    def widened(self, models: int) -> Account:
        """The same with room for models added to the catalogue since."""
        more = models - len(self.charged)
        if more <= 0:
            return self
        none = np.zeros(more, dtype=np.int64)
        wider: dict[str, Any] = {name: np.concatenate([getattr(self, name), none]) for name in VECTORS}
        return replace(self, **wider)

    def available(self, granted: IntArray) -> IntArray:
        """Picodollars that may still be spent on each LLM; negative after dear settlements, shape [M]."""
        return granted - self.released - self.charged

    def released_to(self, granted: IntArray, target: IntArray) -> Account:
        """Give back what is held beyond the target."""
        excess = np.maximum(self.available(granted) - target, 0)
        return replace(self, released=self.released + excess) if excess.any() else self

    def routed(self, choice: IntArray, charge: IntArray) -> Account:
        """Charge a batch.

        Parameters
        ----------
        choice : ndarray of int64, shape [n]
            From `routing.decision.choose`.
        charge : ndarray of int64, shape [n, M]
            Picodollars.
        """
        models = len(self.charged)
        rows = np.flatnonzero(choice >= 0)
        picked = choice[rows]
        spent = np.zeros(models, dtype=np.int64)
        np.add.at(spent, picked, charge[rows, picked])
        return replace(
            self,
            charged=self.charged + spent,
            reserved=self.reserved + spent,
            served=self.served + np.bincount(picked, minlength=models),
            arrived=self.arrived + len(choice),
            unserved=self.unserved + int((choice == UNSERVED).sum()),
            deferred=self.deferred + int((choice == DEFERRED).sum()),
        )

    def settle(self, model: IntArray, reserved: IntArray, actual: IntArray) -> Account:
        """Replace reservations by what was really spent; all three of shape [n].

        Charges stop at `MOST`: wrong outcomes must not add up until they count as nothing.
        """
        models = len(self.charged)
        change, spent = np.zeros(models, dtype=np.int64), np.zeros(models, dtype=np.int64)
        np.add.at(change, model, actual - reserved)
        np.add.at(spent, model, actual)
        return replace(
            self,
            charged=np.minimum(self.charged + change, MOST),
            settled=np.minimum(self.settled + spent, MOST),
            settlements=self.settlements + np.bincount(model, minlength=models),
        )

    def lapse(self, model: IntArray) -> Account:
        """Reservations whose outcome did not come in time: they stay charged; shape [n]."""
        return replace(self, lapsed=self.lapsed + np.bincount(model, minlength=len(self.lapsed)))


VECTORS = ("released", "charged", "reserved", "settled", "served", "settlements", "lapsed")
COUNTS = ("arrived", "unserved", "deferred", "dead")
