"""Samples as the planner reads them: a lane's estimates, with the account that they belong to."""

from __future__ import annotations

from dataclasses import dataclass

from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.policy.account import Account
from streams.ledger.account_format import account_from_dict
from streams.messages.internal_fields import count_field
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.samples import decode_clusters, decode_samples, decode_terms


@dataclass(frozen=True)
class SampleBatch:
    """The samples of one message.

    Parameters
    ----------
    period, lane : int
    models : tuple of str, length M
        LLMs of the columns.
    account : Account or None
        The lane's account. None if the planner reads it from the ledger.
    estimates : Estimates
        [n, M], uncorrected.
    terms : QueryTerms
    """

    period: int
    lane: int
    models: tuple[str, ...]
    account: Account | None
    estimates: Estimates
    terms: QueryTerms

    @classmethod
    def decode(cls, value: bytes | None) -> SampleBatch:
        """Decode a message of the topic of samples.

        Raises
        ------
        RejectedMessage
            The message was not written by a lane.
        """
        header, quality, cost = decode_samples(value)
        period, lane = count_field(header, "period"), count_field(header, "lane")
        try:
            models, plain = tuple(header["models"]), header["account"]
            account = None if plain is None else account_from_dict(plain, models)
            if len(quality) and quality.shape[1] != len(models):
                raise ValueError(f"{quality.shape[1]} columns for {len(models)} LLMs")
            terms, cluster = decode_terms(header, quality.shape), decode_clusters(header, len(quality))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            reason, expected = RejectionReason.INVALID_INTERNAL_FIELD, "those of a lane"
            fields = "models, account, terms, clusters"
            raise RejectedMessage(reason, fields, shown=f"({error!r})", expected=expected) from None
        return cls(period, lane, models, account, Estimates(quality, cost, cluster), terms)
