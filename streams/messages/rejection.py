"""Reasons for which messages are rejected, and the exception that carries one."""

from __future__ import annotations

import re
from enum import Enum

_PLACEHOLDER = re.compile(r"\{\w+\}")


class RejectionReason(Enum):
    """A reason to reject a message: the stage that rejects it, the text for its sender, and an explanation.

    Stages are "decode" (the message is invalid), "embed" (the prompt cannot be embedded), "reserve" (the
    router cannot bound the cost), "settle" (the outcome fits no reservation) and "fleet" (the message on an
    LLM's topic was not written by the router).
    """

    # ---- values and fields of any message
    NULL_VALUE = "decode", "is null; send a JSON object", "The message has no value."
    TOO_MANY_BYTES = (
        "decode",
        "has {size} bytes; at most {limit} are taken",
        "The value, the prompt or the text of the messages is larger than the router accepts.",
    )
    NOT_JSON = "decode", "is not JSON in UTF-8 ({error})", "The value cannot be parsed."
    NOT_AN_OBJECT = "decode", "is JSON, but a {kind}; send an object", "The value is a list, text or number."
    EMPTY_TEXT = "decode", "{shown} must be a text that is not empty", "`id` or `prompt` is missing or empty."
    ID_TOO_LONG = "decode", "has {size} characters; at most {limit} are taken", "The `id` is too long."
    NUMBER_OUT_OF_RANGE = (
        "decode",
        "{shown} must be a number from 0 to {limit}",
        "`cost` or `quality` of an outcome, or `max_cost_usd` or `min_quality` of a query, is no number or "
        "not in its range.",
    )

    # ---- queries
    INVALID_MAX_TOKENS = (
        "decode",
        "{shown} must be a whole number from 1 to {limit}",
        "`max_tokens` of a query is not a positive integer, or too large.",
    )
    WEIGHT_OUT_OF_RANGE = (
        "decode",
        "{shown} must be a number above 0, at most {limit}",
        "`weight` of a query is not a positive number, or too large.",
    )
    INVALID_MODELS = (
        "decode",
        "{shown} must be a list of 1 to {limit} names or patterns",
        "`models` of a query is not a list, empty or too long.",
    )
    INVALID_MODEL_PATTERN = (
        "decode",
        "{shown} must be the name or the pattern of an LLM, of at most {limit} characters",
        "An element of `models` of a query is not a text, empty or too long.",
    )
    INVALID_DEADLINE = (
        "decode",
        "{shown} must be a time by RFC 3339 with an offset, or whole milliseconds since 1970",
        "`deadline` of a query is not a time.",
    )
    NO_GROUP_VALUE = (
        "decode",
        "{shown} must be a text of 1 to {limit} characters, because the budget {budget} requires it; "
        "add the value, or remove `required` from the budget",
        "The query has no usable value in the `group_by` field of a budget with `required: true`.",
    )
    METADATA_NOT_AN_OBJECT = "decode", "{shown} must be an object", "`metadata` is not an object."
    INVALID_MESSAGES = (
        "decode",
        "{problem}",
        "`messages` do not have the form of the chat completions API, or have no text.",
    )
    HEADER_NAME_NOT_UTF8 = (
        "decode",
        "the name {name} is not UTF-8; send names as UTF-8",
        "A header's name cannot be passed on by clients in Python.",
    )
    EMBEDDING_NOT_BASE64 = "decode", "is not base64 ({error})", "`embedding` is a text but not base64."
    EMBEDDING_WRONG_SIZE = (
        "decode",
        "has {size} bytes; {dimension} numbers of float16 are {expected} bytes",
        "`embedding` was made by another model, or has numbers of another type.",
    )
    EMBEDDING_WRONG_TYPE = (
        "decode",
        "is a {kind}; send base64 or a list of numbers",
        "`embedding` is neither a text nor a list.",
    )
    EMBEDDING_WRONG_LENGTH = (
        "decode",
        "has {size} numbers; the router's have {dimension}",
        "`embedding` was made by another model.",
    )
    EMBEDDING_NOT_NUMBERS = (
        "decode",
        "has an element that is not a number",
        "`embedding` is a list with elements of other types.",
    )
    EMBEDDING_OUT_OF_RANGE = (
        "decode",
        "is zero in every dimension or beyond 1e150; send a unit vector",
        "`embedding` is a list that cannot be scaled to length one.",
    )
    EMBEDDING_ZERO = (
        "decode",
        "is zero in every dimension; send a vector with a direction",
        "`embedding` has no direction.",
    )
    EMBEDDING_NOT_FINITE = (
        "decode",
        "has a number that is NaN or infinite; send a vector with a direction",
        "`embedding` contains NaN or infinity.",
    )
    EMBEDDER_FAILED = "embed", "the embedder failed on it: {error}", "The embedding model raised an error."
    COST_UNBOUNDED = (
        "reserve",
        "what it adds to the cost is not bounded, and this router reserves bounds; "
        "leave it out, or send it to a router with reserve=estimate",
        "With `reserve=bound`, a query may have only fields whose cost the router can bound.",
    )
    NESTED_TOO_DEEPLY = (
        "reserve",
        "cannot be written as JSON ({error}), so nothing bounds what they cost; nest them less",
        "With `reserve=bound`, messages and parameters are nested too deeply to be measured.",
    )

    # ---- queries that a lane deferred
    NOT_DEFERRED = (
        "decode",
        "a deferred query has the header {header}; this one has none",
        "A message on the overflow topic was not written by the router.",
    )
    INVALID_OVERFLOW_HEADER = (
        "decode",
        "{header} cannot be read ({error})",
        "The router's header of a deferred query is damaged.",
    )
    UNEVEN_OVERFLOW_HEADER = (
        "decode",
        "{header} has columns of different lengths",
        "The router's header of a deferred query is damaged.",
    )
    NEGATIVE_OVERFLOW_HEADER = (
        "decode",
        "{header} has numbers that are negative or none",
        "The router's header of a deferred query is damaged.",
    )

    # ---- outcomes
    NO_MODEL = "decode", "{shown} must be the name of an LLM", "`model` of an outcome is missing or no text."
    NO_COST = "decode", "is missing or null; send USD", "`cost` of an outcome is missing or null."
    INVALID_POSITION = (
        "decode",
        "{shown} must be the whole number that `routing` has",
        "`partition`, `offset` or `attempt` of an outcome is not copied from the routed query.",
    )
    INVALID_STATUS = "decode", "{shown} must be one of {known}", "`status` of an outcome is unknown."
    OTHER_PARTITION = (
        "settle",
        "partition {partition} is not this one's, {lane}",
        "The outcome is on another partition of `outcomes` than it names.",
    )
    NO_SUCH_QUERY = (
        "settle",
        "no query at offset {offset} was routed to an LLM",
        "The outcome names a query that has no reservation.",
    )
    ROUTED_LATER = (
        "settle",
        "the query at offset {offset} was routed only later",
        "The outcome was written before its query was routed.",
    )
    OTHER_ID = (
        "settle",
        "the query at offset {offset} has another id",
        "The outcome's `id` is not the query's.",
    )
    OTHER_MODEL = "settle", "the query was routed to {model}", "The outcome names an LLM that was not chosen."
    NO_SUCH_ATTEMPT = (
        "settle",
        "the query at offset {offset} has no attempt {attempt}",
        "The outcome or return names an attempt that has no reservation.",
    )
    WAS_RETURNED = (
        "settle",
        "attempt {attempt} of the query at offset {offset} was returned before",
        "An outcome came for an attempt that a fleet had returned; the return counts.",
    )
    WAS_SETTLED = (
        "settle",
        "attempt {attempt} of the query at offset {offset} was settled by an outcome before",
        "A query was returned after an outcome had settled the same attempt; the outcome counts.",
    )
    COST_CHANGED = (
        "settle",
        "the query was settled before, at another cost",
        "A second outcome of the query has another cost than the first.",
    )
    EXPIRED = (
        "settle",
        "the reservation of offset {offset} has lapsed; it stays charged",
        "The outcome came after the reservation expired.",
    )

    # ---- returned queries
    NOT_A_ROUTED_QUERY = (
        "decode",
        "{problem}; return the message of the LLM's topic as it came",
        "A message on `queries.returned` is not a routed query.",
    )
    INVALID_RETURN_HEADER = (
        "decode",
        "{header} is {shown}; send {expected}",
        "A header of a returned query is missing or invalid.",
    )

    # ---- messages between the router's own programs
    INVALID_SAMPLE_SHAPE = (
        "decode",
        "{shape} of {dtype} must be [n, M] of <f4 or <f8",
        "A message on the samples' topic was not written by the router.",
    )
    INVALID_SAMPLES = (
        "decode",
        "are not base64 of {shape} numbers ({error})",
        "A message on the samples' topic was not written by the router.",
    )
    INVALID_INTERNAL_FIELD = (
        "decode",
        "{shown} must be {expected}; only programs of the router write this message",
        "A message on a topic of the router was not written by one of its programs.",
    )
    FLEET_NULL_VALUE = (
        "fleet",
        "is null; only the router writes to an LLM's topic",
        "A message on an LLM's topic has no value.",
    )
    FLEET_NOT_JSON = "fleet", "is not JSON ({error})", "A message on an LLM's topic cannot be parsed."
    NOT_ROUTED = (
        "fleet",
        "{problem}; only the router writes to an LLM's topic",
        "A message on an LLM's topic has no `id`, or no valid `routing`.",
    )

    def __init__(self, stage: str, text: str, explanation: str) -> None:
        self.stage = stage
        self.text = text
        self.explanation = explanation

    @property
    def general_text(self) -> str:
        """The text with `#` for everything that differs between messages."""
        return _PLACEHOLDER.sub("#", self.text)


class RejectedMessage(Exception):  # noqa: N818 - not a fault of the program: its sender gets it as data
    """A message that cannot be used.

    Parameters
    ----------
    reason : RejectionReason
    field : str
        The field that is invalid; "value" is the whole message.
    **details
        Values of the placeholders in the reason's text.

    Examples
    --------
    >>> str(RejectedMessage(RejectionReason.ID_TOO_LONG, "id", size=600, limit=512))
    'id: has 600 characters; at most 512 are taken'
    """

    def __init__(self, reason: RejectionReason, field: str, **details: object) -> None:
        self.reason = reason
        self.stage = reason.stage
        self.field = field
        self.text = reason.text.format(**details)
        super().__init__(f"{field}: {self.text}")


def find_reason(stage: str, message: str) -> tuple[RejectionReason, str] | None:
    """Recognise the reason of a rejection by its stage and its message "field: text".

    Returns
    -------
    (RejectionReason, str) or None
        The reason, and the message with `#` for all that differs between messages; None if no reason has
        this text, as in dead letters of older versions.

    Examples
    --------
    >>> find_reason("decode", "prompt: has 1200000 bytes; at most 1048576 are taken")[1]
    'prompt: has # bytes; at most # are taken'
    """
    field, _, text = message.partition(": ")
    for reason, pattern in _PATTERNS.items():
        if reason.stage == stage and pattern.fullmatch(text):
            return reason, f"{re.sub('[0-9]+', '#', field)}: {reason.general_text}"
    return None


def reason_table() -> str:
    """Return all reasons as a table in Markdown."""
    lines = ["| stage | text | meaning |", "| --- | --- | --- |"]
    lines += [
        f"| {reason.stage} | {reason.general_text} | {reason.explanation} |" for reason in RejectionReason
    ]
    return "\n".join(lines)


def _pattern(text: str) -> re.Pattern[str]:
    pieces = [re.escape(piece) for piece in _PLACEHOLDER.split(text)]
    return re.compile(".*".join(pieces), re.DOTALL)


_PATTERNS = {
    # a text that is all placeholder would match everything
    reason: _pattern(reason.text)
    for reason in RejectionReason
    if _PLACEHOLDER.sub("", reason.text)
}
