"""Adapt the parameters of requests to an endpoint: token limit and unsupported parameters."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from producers.fleet.endpoint_errors import EndpointError
from producers.fleet.messages import LIMITS
from streams.messages.query import RESERVED_PARAMETERS

log = structlog.get_logger(__name__)

AUTO = "auto"

FORMS = (("max_tokens",), ("max_tokens", "max_completion_tokens"), ("max_completion_tokens",))
"""Names of the limit, in the order of trial. Endpoints that do not know `max_tokens` reject it at no cost;
those that do not know `max_completion_tokens` often ignore it and answer without a limit."""

NAMES_REFUSED = frozenset({200, 400, 422})
"""Statuses with which endpoints reject the name of a parameter."""

UNSUPPORTED = frozenset(
    {
        "extra_forbidden",
        "unknown_parameter",
        "unrecognized_parameter",
        "unsupported_parameter",
    }
)

_UNSUPPORTED_TEXT = re.compile(
    r"unsupported(?! value)|not supported|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed"
    r"|extra (?:inputs|fields)|deprecated|same time|only one of|not both",
    re.IGNORECASE,
)


class EndpointParameters:
    """Rewrites requests for one endpoint, and learns the name of its token limit.

    Parameters
    ----------
    limit : str
        Name of the token limit: `max_tokens`, `max_completion_tokens`, or `auto` to find out.
    drop : collection of str
        Parameters to leave out.
    """

    def __init__(self, limit: str = AUTO, drop: Collection[str] = ()) -> None:
        if limit not in (AUTO, *LIMITS):
            raise ValueError(f"limit: {limit!r} must be {AUTO}, {' or '.join(LIMITS)}")
        if own := sorted(set(drop) & {*RESERVED_PARAMETERS, *LIMITS}):
            raise ValueError(f"drop: {', '.join(own)} cannot be left out; name other parameters")
        self._drop = frozenset(drop)
        self._forms: tuple[tuple[str, ...], ...] = FORMS if limit == AUTO else ((limit,),)
        self._form: tuple[str, ...] = self._forms[0]
        self._refused: set[tuple[str, ...]] = set()
        self._ignored: set[tuple[str, ...]] = set()

    def apply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request for the endpoint, with the minimum of its limits under the endpoint's name."""
        body = {name: value for name, value in request.items() if name not in self._drop}
        limits = [limit for name in LIMITS if (limit := body.pop(name, None)) is not None]
        return body | (dict.fromkeys(self._form, min(limits)) if limits else {})

    def learn_refusal(self, body: Mapping[str, Any], error: EndpointError) -> bool:
        """Return whether to send the request again, because the endpoint rejected only the limit's name.

        Parameters
        ----------
        body : mapping
            The request from `apply`.
        error : EndpointError
        """
        form = _form(body)
        if len(self._forms) == 1 or error.status not in NAMES_REFUSED or not _refuses(error, form):
            return False
        self._refused.add(form)
        if len(form) == 1:
            self._refused |= {other for other in self._forms if form[0] in other}
        if self._form not in self._refused:
            return True
        untried = [other for other in self._forms if other not in self._refused]
        if not untried:
            # no name is left for this request; other servers may answer later ones
            self._refused.clear()
            self._form = self._forms[0]
            return False
        self._form = next((other for other in untried if other not in self._ignored), untried[0])
        log.info("limit_parameter", refused=form, now=self._form, reason=error.text)
        return True

    def check_limit(self, body: Mapping[str, Any], completion: int) -> None:
        """Send the limit under another name from now on if an answer exceeded it.

        Parameters
        ----------
        body : mapping
            The request from `apply`.
        completion : int
            Tokens of the answer.
        """
        form = _form(body)
        if not form or completion <= body[form[0]]:
            return
        self._ignored.add(form)
        if form == self._form:
            untried = [other for other in self._forms if other not in self._ignored]
            usable = [other for other in untried if other not in self._refused]
            if usable or untried:
                if not usable:
                    self._refused.clear()
                self._form = (usable or untried)[0]
            else:
                self._form = max((f for f in self._forms if f not in self._refused), key=len)
        log.warning(
            "limit_exceeded",
            limit=body[form[0]],
            tokens=completion,
            sent_as=form,
            now=self._form,
            reason="the endpoint does not keep to the limit of an answer's tokens",
        )


def _form(body: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in FORMS[1] if name in body)


def _refuses(error: EndpointError, form: tuple[str, ...]) -> bool:
    """Return whether an error is about the limit's name, not about its value."""
    named = any(error.parameter == name or re.search(rf"\b{name}\b", error.text) for name in form)
    return named and bool(error.names & UNSUPPORTED or _UNSUPPORTED_TEXT.search(error.text))
