"""Channels of the AsyncAPI document: each topic with its messages and the program that sends or reads it."""

from __future__ import annotations

from typing import NamedTuple


class ChannelDescription(NamedTuple):
    """One topic in the document.

    Parameters
    ----------
    topic : str
        Attribute of `streams.config.topic_names.Topics`; "llm" for the topics of LLMs.
    messages : tuple of str
        Names of the document's messages.
    description : str
    operation : str
        Name of the operation; it begins with "send" or "receive", as the router does.
    summary : str
        Of the operation.
    """

    topic: str
    messages: tuple[str, ...]
    description: str
    operation: str
    summary: str

    @property
    def action(self) -> str:
        """`send` or `receive`."""
        return "receive" if self.operation.startswith("receive") else "send"


_LEDGER = ("ledger", "ledger-account", "ledger-counter")

CHANNELS: dict[str, ChannelDescription] = {
    name: ChannelDescription(*fields)
    for name, fields in {
        "queries": (
            "queries",
            ("query",),
            "Queries of all producers.",
            "receiveQueries",
            "The router reads queries.",
        ),
        "llm": (
            "llm",
            ("routed-query",),
            "Queries routed to one LLM.",
            "sendRoutedQueries",
            "The router sends each query to one LLM.",
        ),
        "unserved": (
            "unserved",
            ("unserved-query",),
            "Queries that no LLM gets.",
            "sendUnservedQueries",
            "The router sends queries without an LLM.",
        ),
        "deadLetters": (
            "dlq",
            ("dead-letter",),
            "Rejected queries, unchanged.",
            "sendDeadLetters",
            "The router sends rejected queries.",
        ),
        "returned": (
            "returned",
            ("returned-query",),
            "Queries that fleets could not answer.",
            "receiveReturnedQueries",
            "The router decides them again.",
        ),
        "outcomes": (
            "outcomes",
            ("outcome",),
            "Costs of answers.",
            "receiveOutcomes",
            "The router settles reservations.",
        ),
        "rejectedOutcomes": (
            "outcomes_dlq",
            ("dead-letter",),
            "Rejected outcomes, unchanged.",
            "sendRejectedOutcomes",
            "The router sends rejected outcomes.",
        ),
        "answers": ("answers", ("answer",), "Answers of all fleets.", "sendAnswers", "Fleets send answers."),
        "bills": (
            "periods",
            ("period", "period-counter"),
            "Totals of each period, by its number.",
            "sendBills",
            "The planner sends changed bills.",
        ),
        "budgetEvents": (
            "budget_events",
            ("budget-event",),
            "Thresholds and forecasts of budgets.",
            "sendBudgetEvents",
            "The router reports budgets in use.",
        ),
        "decisions": (
            "decisions",
            ("decision",),
            "Decisions with all scores, if `decision_log` is on.",
            "sendDecisions",
            "The router logs its decisions.",
        ),
        "shadow": (
            "shadow",
            ("decision",),
            "Decisions of a shadow.",
            "sendShadowDecisions",
            "A shadow sends its decisions.",
        ),
        "plans": (
            "plan_log",
            ("plan",),
            "All plans, the newest last.",
            "sendPlans",
            "The planner sends each plan.",
        ),
        "planInForce": (
            "plans",
            ("plan-head", "plan-counter"),
            "The plan in force.",
            "sendPlanInForce",
            "The planner sends each plan, and counters that changed.",
        ),
        "catalogue": (
            "catalogue",
            ("catalogue", "pause", "top-up"),
            "The catalogue in force, and pauses and raised limits by operators.",
            "receiveCatalogue",
            "Workers read what operators publish.",
        ),
        "ledger": ("ledger", _LEDGER, "Ledgers of lanes.", "sendLedgers", "Lanes write their ledgers."),
        "overflowLedger": (
            "overflow_ledger",
            _LEDGER,
            "The ledger of the overflow lane.",
            "sendOverflowLedger",
            "The overflow lane writes its ledger.",
        ),
        "reservations": (
            "reservations",
            ("reservations",),
            "Amounts that routed queries hold.",
            "sendReservations",
            "Lanes write what they reserve.",
        ),
        "samples": (
            "samples",
            ("samples",),
            "Estimates for the planner.",
            "sendSamples",
            "Lanes send estimates.",
        ),
        "overflow": (
            "overflow",
            ("deferred-query",),
            "Queries that lanes defer to the overflow lane.",
            "sendDeferredQueries",
            "Lanes defer queries.",
        ),
        "status": (
            "status",
            ("heartbeat", "timeline-point"),
            "States of workers, and the timeline.",
            "sendStatus",
            "Workers send their states.",
        ),
        "replayed": (
            "replayed",
            ("replay-marker",),
            "Markers of replayed dead letters.",
            "sendReplayMarkers",
            "A replay of dead letters sends markers.",
        ),
        "batches": (
            "batches",
            ("batch-progress",),
            "Progress of batches.",
            "sendBatchProgress",
            "Senders of batches record their progress.",
        ),
        "gatewayObjects": (
            "gateway_objects",
            ("gateway-object",),
            "Objects that gateways share.",
            "sendGatewayObjects",
            "Gateways send claims, responses, files and batches.",
        ),
        "gatewayFiles": (
            "gateway_files",
            ("file-piece",),
            "Pieces of files.",
            "sendFilePieces",
            "Gateways send the content of files.",
        ),
    }.items()
}
"""Channels by their name in the document."""
