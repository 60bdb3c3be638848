"""The interface of policies: a case in, a decision for every query out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from experiments.cases import Case
from routing.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Decisions:
    """Decisions of a policy.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
        LLM of each query in order of arrival, or -1 if the query is not sent.
    charged : ndarray of float64, shape [M], optional
        USD that the policy accounts as spent; None for policies that keep no account.
    """

    choice: IntArray
    charged: FloatArray | None = None


class Policy(Protocol):
    """Rule that decides every query of a case; equal cases and seeds give equal decisions."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    @property
    def block(self) -> int | None:
        """Number of queries in a block; decisions on complete blocks do not depend on later queries.

        None for oracles, which see the whole test set before they decide.
        """
        ...

    def decide(self, case: Case) -> Decisions:
        """Decide every query."""
        ...
