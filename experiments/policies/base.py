"""What every policy takes and gives: a case in, a decision for every query out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from experiments.split import Case, IntArray
from routing.estimators.base import FloatArray


@dataclass(frozen=True)
class Decisions:
    """What a policy did.

    Parameters
    ----------
    choice : ndarray of int64, shape [n]
        LLM of each query in order of arrival; -1: not sent.
    charged : ndarray of float64, shape [M], optional
        USD that the policy believes to have spent; None for policies that keep no account.
    """

    choice: IntArray
    charged: FloatArray | None = None


class Policy(Protocol):
    """Decides every query of a case; the same case and seed always give the same decisions."""

    @property
    def name(self) -> str:
        """As it is asked for on the command line."""
        ...

    @property
    def block(self) -> int | None:
        """Decisions up to a multiple of so many queries do not depend on later ones.

        None for policies that see the whole test set before they decide (oracles).
        """
        ...

    def decide(self, case: Case) -> Decisions:
        """Decide every query."""
        ...
