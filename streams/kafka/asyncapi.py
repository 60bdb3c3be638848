"""The AsyncAPI 3.0 document of all topics, their messages and Kafka bindings."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from routing.budgets.catalogue import Catalogue
from routing.budgets.model import Model
from streams.config.settings import Settings
from streams.config.topic_names import Topics
from streams.kafka.asyncapi_channels import CHANNELS, ChannelDescription
from streams.kafka.topic_config import TopicSpec
from streams.kafka.topics import topic_specs
from streams.messages.deferred import OVERFLOW_HEADER
from streams.messages.json_schemas import HEADER_SCHEMAS, VALUE_SCHEMAS

BINDING = "0.5.0"
"""Version of AsyncAPI's Kafka bindings."""

LLM, SLUG = "llm", "SLUG"
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
    channels = {name: _channel(topics, specs, replicas, one) for name, one in CHANNELS.items()}
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
            one.operation: _operation(one.action, name, one.summary) for name, one in CHANNELS.items()
        },
        "components": {
            "messages": {
                **{name: _message(name) for name in VALUE_SCHEMAS},
                "dead-letter": _dead_letter(),
                "returned-query": _returned(),
                "deferred-query": _deferred(),
                "file-piece": _file_piece(),
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


def _channel(
    topics: Topics, specs: Mapping[str, TopicSpec], replicas: int, channel: ChannelDescription
) -> dict[str, Any]:
    of_llm = channel.topic == LLM
    spec = specs[topics.llm(SLUG) if of_llm else getattr(topics, channel.topic)]
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
    described = {
        "address": spec.name,
        "description": channel.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.messages},
        "bindings": {"kafka": binding},
    }
    if not of_llm:
        return described
    # the bindings of a channel name its topic; an address with a parameter has no single one
    del binding["topic"]
    slug = {"description": "The LLM's name, with - for other characters than A-Z a-z 0-9 . _ -"}
    return described | {"address": topics.llm("{slug}"), "parameters": {"slug": slug}}


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(name: str) -> dict[str, Any]:
    description, schema = VALUE_SCHEMAS[name]
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
        "headers": HEADER_SCHEMAS["returned-query-headers"][1](),
    }


def _deferred() -> dict[str, Any]:
    header = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": HEADER_SCHEMAS["deferred-query-header"][1](),
    }
    return {
        **_message("query"),
        "name": "deferred-query",
        "title": "deferred-query",
        "summary": "A query as it came; its last header has its origin, estimates and charges.",
        "headers": {"type": "object", "required": [OVERFLOW_HEADER], "properties": {OVERFLOW_HEADER: header}},
    }


def _dead_letter() -> dict[str, Any]:
    return {
        **_bytes("dead-letter"),
        "summary": "A rejected message byte for byte; its last headers say why and where it came from.",
        "headers": HEADER_SCHEMAS["dead-letter-headers"][1](),
    }


def _file_piece() -> dict[str, Any]:
    return {**_bytes("file-piece"), "summary": "Up to 1 MiB of a file, with the file's id as the key."}


def _bytes(name: str) -> dict[str, Any]:
    """Return a message whose value is not JSON."""
    return {
        "name": name,
        "title": name,
        "contentType": "application/octet-stream",
        "payload": {},
        "bindings": {"kafka": {"bindingVersion": BINDING}},
    }


def _version() -> str:
    try:
        return version("port-router")
    except PackageNotFoundError:
        return "0"
