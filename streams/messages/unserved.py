"""Reasons for which a valid query is not routed to an LLM."""

from __future__ import annotations

from enum import StrEnum


class UnservedReason(StrEnum):
    """The field `reason` of a message on the topic of unserved queries."""

    NOT_WORTH_IT = "not_worth_it"
    BUDGET_EXHAUSTED = "budget_exhausted"
    NO_ELIGIBLE_LLM = "no_eligible_llm"
    EXPIRED = "expired"
    ALL_FAILED = "all_failed"

    @property
    def text(self) -> str:
        """The reason as a sentence, for people."""
        return _TEXTS[self]


_TEXTS = {
    UnservedReason.NOT_WORTH_IT: "no LLM is worth its price",
    UnservedReason.BUDGET_EXHAUSTED: "no LLM that is worth its price has budget",
    UnservedReason.NO_ELIGIBLE_LLM: "no LLM may answer it",
    UnservedReason.EXPIRED: "its deadline had passed",
    UnservedReason.ALL_FAILED: "all LLMs that were tried failed to answer it",
}


def reason_text(reason: object) -> str:
    """Return the sentence of a reason; a text that is no reason, as older routers wrote it, stays as it is.

    Examples
    --------
    >>> reason_text("not_worth_it")
    'no LLM is worth its price'
    """
    try:
        return UnservedReason(str(reason)).text
    except ValueError:
        return str(reason)
