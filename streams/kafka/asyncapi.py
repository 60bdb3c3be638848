"""The AsyncAPI 3.0 document of the topics that programs outside the router write and read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from routing.budgets.catalogue import Catalogue
from routing.budgets.model import Model
from streams.config.settings import Settings
from streams.kafka.topic_config import TopicSpec
from streams.kafka.topics import topic_specs
from streams.messages.dead_letter import ERROR_HEADER, ERROR_HEADERS
from streams.messages.json_schemas import SCHEMAS
from streams.messages.returned import RETURN_HEADERS

BINDING = "0.5.0"
"""Version of AsyncAPI's Kafka bindings."""

SLUG = "SLUG"
TOPIC_SETTINGS = {"retention.ms": int, "retention.bytes": int, "max.message.bytes": int}
"""Settings of topics that the bindings have as whole numbers."""


def asyncapi_document(settings: Settings) -> dict[str, Any]:
    """Return the document for a router with these settings.

    Parameters
    ----------
    settings : Settings
        Its topic names and partitions, and its brokers if they are set.
    """
    topics = settings.topics
    all_topics = settings.model_copy(update={"decision_log": True})
    specs = {spec.name: spec for spec in topic_specs(all_topics, Catalogue((Model(SLUG, budget_usd=0.0),)))}
    replicas = settings.replication_factor
    channels = {
        "queries": _channel(specs[topics.queries], replicas, "query", "Queries of all producers."),
        "llm": {
            **_channel(specs[topics.llm(SLUG)], replicas, "routed-query", "Queries routed to one LLM."),
            "address": topics.llm("{slug}"),
            "parameters": {
                "slug": {"description": "The LLM's name, with - for other characters than A-Z a-z 0-9 . _ -"}
            },
        },
        "unserved": _channel(specs[topics.unserved], replicas, "unserved-query", "Queries that no LLM gets."),
        "deadLetters": _channel(specs[topics.dlq], replicas, "dead-letter", "Rejected queries, unchanged."),
        "returned": _channel(
            specs[topics.returned], replicas, "returned-query", "Queries that fleets could not answer."
        ),
        "outcomes": _channel(specs[topics.outcomes], replicas, "outcome", "Costs of answers."),
        "rejectedOutcomes": _channel(
            specs[topics.outcomes_dlq], replicas, "dead-letter", "Rejected outcomes, unchanged."
        ),
        "bills": _channel(specs[topics.periods], replicas, "period", "Totals of each period, by its number."),
        "plans": _channel(specs[topics.plan_log], replicas, "plan", "All plans, the newest last."),
        "answers": _channel(specs[topics.answers], replicas, "answer", "Answers of all fleets."),
        "budgetEvents": _channel(
            specs[topics.budget_events], replicas, "budget-event", "Thresholds and forecasts of budgets."
        ),
        "decisions": _channel(
            specs[topics.decisions],
            replicas,
            "decision",
            "Decisions with all scores, if `decision_log` is on.",
        ),
    }
    channels["shadow"] = _channel(specs[topics.shadow], replicas, "decision", "Decisions of a shadow.")
    # the bindings of a channel name its topic; an address with a parameter has no single one
    del channels["llm"]["bindings"]["kafka"]["topic"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "port-router",
            "version": _version(),
            "description": "A streaming LLM router: queries in, routed queries and answers out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        **_servers(settings),
        "channels": channels,
        "operations": {
            "receiveQueries": _operation("receive", "queries", "The router reads queries."),
            "sendRoutedQueries": _operation("send", "llm", "The router sends each query to one LLM."),
            "sendUnservedQueries": _operation("send", "unserved", "The router sends queries without an LLM."),
            "sendDeadLetters": _operation("send", "deadLetters", "The router sends rejected queries."),
            "receiveReturnedQueries": _operation("receive", "returned", "The router decides them again."),
            "receiveOutcomes": _operation("receive", "outcomes", "The router settles reservations."),
            "sendRejectedOutcomes": _operation(
                "send", "rejectedOutcomes", "The router sends rejected outcomes."
            ),
            "sendBills": _operation("send", "bills", "The planner sends changed bills."),
            "sendPlans": _operation("send", "plans", "The planner sends each plan."),
            "sendDecisions": _operation("send", "decisions", "The router logs its decisions."),
            "sendShadowDecisions": _operation("send", "shadow", "A shadow sends its decisions."),
            "sendAnswers": _operation("send", "answers", "Fleets send answers."),
            "sendBudgetEvents": _operation("send", "budgetEvents", "The router reports budgets in use."),
        },
        "components": {
            "messages": {
                **{name: _message(name) for name in SCHEMAS},
                "dead-letter": _dead_letter(),
                "returned-query": _returned(),
            }
        },
    }


def _servers(settings: Settings) -> dict[str, Any]:
    if settings.bootstrap_servers is None:
        return {}
    secure = settings.security_protocol != "PLAINTEXT"
    hosts = settings.bootstrap_servers.split(",")
    protocol = "kafka-secure" if secure else "kafka"
    return {
        "servers": {
            f"broker{number}": {"host": host, "protocol": protocol, "description": settings.security_protocol}
            for number, host in enumerate(hosts, 1)
        }
    }


def _channel(spec: TopicSpec, replicas: int, message: str, description: str) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": spec.config["cleanup.policy"].split(",")}
    configuration |= {
        name: kind(spec.config[name]) for name, kind in TOPIC_SETTINGS.items() if name in spec.config
    }
    binding = {
        "topic": spec.name,
        "partitions": spec.partitions,
        "replicas": replicas,
        "topicConfiguration": configuration,
        "bindingVersion": BINDING,
    }
    return {
        "address": spec.name,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": binding},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(name: str) -> dict[str, Any]:
    description, schema = SCHEMAS[name]
    return {
        "name": name,
        "title": name,
        "summary": description,
        "contentType": "application/json",
        "payload": schema(),
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": BINDING}},
    }


def _returned() -> dict[str, Any]:
    return {
        **_message("routed-query"),
        "name": "returned-query",
        "title": "returned-query",
        "summary": "A routed query as it came; its last headers have the reason, the cost and the requests.",
        "headers": _headers(RETURN_HEADERS),
    }


def _headers(names: Sequence[str]) -> dict[str, Any]:
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "required": list(names), "properties": properties}


def _dead_letter() -> dict[str, Any]:
    return {
        "name": "dead-letter",
        "title": "dead-letter",
        "summary": "A rejected message byte for byte; its last headers say why and where it came from.",
        "contentType": "application/octet-stream",
        "headers": _headers([ERROR_HEADER + name for name in ERROR_HEADERS]),
        "payload": {},
        "bindings": {"kafka": {"bindingVersion": BINDING}},
    }


def _version() -> str:
    try:
        return version("port-router")
    except PackageNotFoundError:
        return "0"
