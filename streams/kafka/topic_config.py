"""Topic settings: the required values, the current ones, and changing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from streams.kafka.bounded_clients import AdminClient
from streams.messages.fields import (
    MAX_VALUE_BYTES,
)

DAY_MS = 24 * 3600 * 1000
KEPT_DAYS = 30
"""Retention of samples, reservations, dead letters and the log of plans."""

STREAM_DAYS = 7
"""Retention of queries, answers, outcomes and the LLMs' topics. No outage may last longer."""

log = structlog.get_logger(__name__)

MIN_BATCH_BYTES = 2 * MAX_VALUE_BYTES
"""Smallest `max.message.bytes` of a topic: a whole query with what the router adds to it must fit, and a
transaction's messages for a partition, which go out as one batch (`streams.kafka.clients.BATCH_BYTES`)."""

# Records keep their producers' compression, because not every client reads every codec. Topics take more than
# a query may have, so that those which are refused arrive, to be refused with a reason.
EVERY_TOPIC = {"compression.type": "producer", "max.message.bytes": str(3 * MAX_VALUE_BYTES)}

# Changelogs are read to their end whenever a partition changes hands, and grow by a record a transaction:
# small segments let the compaction keep them short. No time retention: an old record may be the only one.
COMPACTED = EVERY_TOPIC | {
    "cleanup.policy": "compact",
    "message.timestamp.type": "CreateTime",
    "segment.bytes": str(16 * 2**20),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
}

# Records that are replaced as they change, and have no use after some days.
COMPACTED_DAYS = COMPACTED | {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(KEPT_DAYS * DAY_MS),
    "retention.bytes": "-1",
}


def kept_for(days: int, *, clock: str = "CreateTime") -> dict[str, str]:
    """Return the settings of a topic that keeps all records for some days, whatever their size.

    Parameters
    ----------
    days : int
    clock : {"CreateTime", "LogAppendTime"}
        The time by which the broker deletes: the writer's own, or the broker's where anybody may write, for a
        timestamp in seconds instead of milliseconds would delete a record at once.
    """
    return EVERY_TOPIC | {
        "cleanup.policy": "delete",
        "message.timestamp.type": clock,
        "retention.ms": str(days * DAY_MS),
        "retention.bytes": "-1",
    }


# A dead letter may be anything that a compressed batch brought in.
LARGEST = {"max.message.bytes": str(64 * 2**20)}

MUST_BE = ("cleanup.policy",)
"""Settings that prevent the loss of records. A topic with another value is rejected."""

SHOULD_BE = ("message.timestamp.type", "compression.type")
"""Settings that `topics create` also sets on existing topics. It raises `max.message.bytes`, too."""


@dataclass(frozen=True)
class TopicSpec:
    """The specification of a topic.

    Parameters
    ----------
    name : str
    partitions : int
    config : dict of str to str, optional
    more_allowed : bool, optional
        True if all partitions of the topic are read, however many it has.
    """

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)
    more_allowed: bool = False

    @property
    def compacted(self) -> bool:
        """True if the topic keeps only the newest record of each key, without time limit."""
        return self.config.get("cleanup.policy") == "compact"


def read_topic_configs(admin: AdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the settings of topics, by topic and setting; without those that this client may not read."""
    resources = {ConfigResource(ConfigResource.Type.TOPIC, name): name for name in names}
    configs: dict[str, dict[str, str]] = {}
    if not resources:
        return configs
    for resource, future in admin.describe_configs(list(resources), request_timeout=10).items():
        name = resources[resource]
        try:
            configs[name] = {key: str(entry.value) for key, entry in future.result(10).items()}
        except (KafkaException, TimeoutError) as error:  # not everyone may ask
            log.warning("topic_config_unknown", topic=name, reason=repr(error)[:200])
    return configs


def config_problems(specs: Iterable[TopicSpec], configs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a text for each setting that would lose records: budgets or queries would be forgotten.

    Parameters
    ----------
    specs : iterable of TopicSpec
    configs : mapping of str to mapping
        From `read_topic_configs`.
    """
    return [
        f"topic {spec.name}: {key} is {configs[spec.name][key]} and must be {spec.config[key]}; alter it"
        for spec in specs
        for key in MUST_BE
        if key in configs.get(spec.name, {}) and configs[spec.name][key] != spec.config[key]
    ]


def size_problems(specs: Iterable[TopicSpec], configs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a text for each topic that would refuse a transaction's messages, so that its lane stands still.

    Parameters
    ----------
    specs : iterable of TopicSpec
    configs : mapping of str to mapping
        From `read_topic_configs`.
    """
    return [
        f"topic {spec.name}: max.message.bytes is {size} and must be at least {MIN_BATCH_BYTES}; "
        "run `python -m streams topics create`, or alter it"
        for spec in specs
        if (size := _max_message_bytes(configs.get(spec.name, {}))) is not None and size < MIN_BATCH_BYTES
    ]


def _max_message_bytes(config: Mapping[str, str]) -> int | None:
    """Return the size of the largest batch that a topic takes; None where it is not known."""
    text = config.get("max.message.bytes", "")
    return int(text) if text.isdigit() else None


def outdated_settings(
    specs: Iterable[TopicSpec], configs: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the settings that `topics create` would change, by topic and name: actual and wanted value."""
    outdated: dict[str, dict[str, tuple[str, str]]] = {}
    for spec in specs:
        for key in SHOULD_BE:
            value = configs.get(spec.name, {}).get(key)
            if value is not None and value != spec.config[key]:
                outdated.setdefault(spec.name, {})[key] = value, spec.config[key]
        size, wanted = (_max_message_bytes(config) for config in (configs.get(spec.name, {}), spec.config))
        if size is not None and wanted is not None and size < wanted:
            outdated.setdefault(spec.name, {})["max.message.bytes"] = str(size), str(wanted)
    return outdated


def set_config(admin: AdminClient, changes: Mapping[str, Mapping[str, tuple[str, str]]]) -> set[str]:
    """Change settings of topics; return those topics that may not be changed, which are logged and stay."""
    unchanged: set[str] = set()
    if not changes:
        return unchanged
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            name,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, (_, value) in entries.items()
            ],
        )
        for name, entries in changes.items()
    ]
    for resource, future in admin.incremental_alter_configs(resources, request_timeout=10).items():
        entries = {key: value for key, (_, value) in changes[resource.name].items()}
        try:
            future.result(10)
            log.info("topic_config_set", topic=resource.name, settings=entries)
        except (KafkaException, TimeoutError) as error:
            reason = repr(error)[:200]
            log.warning("topic_config_not_set", topic=resource.name, settings=entries, reason=reason)
            unchanged.add(resource.name)
    return unchanged
