"""A worker's membership of its consumer group, as the bytes that fence a transaction's offsets."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import confluent_kafka

from streams.kafka.bounded_clients import Consumer


@dataclass(frozen=True)
class GroupMembership:
    """A member of a consumer group in one generation.

    Parameters
    ----------
    group : str
    generation : int
    member : str
        Id that the group's coordinator gave to the member.
    instance : str, optional
        `group.instance.id` of a static member.
    """

    group: str
    generation: int
    member: str
    instance: str | None = None

    def follows(self, other: GroupMembership | None) -> bool:
        """Return True if this is the same member in the very next generation.

        Then no third member can have owned this member's partitions in between.
        """
        return other is not None and self.member == other.member and self.generation == other.generation + 1

    def encode(self) -> bytes:
        """Return the membership as `confluent_kafka.Consumer.consumer_group_metadata` returns its own.

        librdkafka copies the generation in the machine's byte order.

        Examples
        --------
        >>> GroupMembership("g", -1, "").encode()
        b'CGMDv2:\\xff\\xff\\xff\\xffg\\x00\\x00\\x01'
        """
        instance = b"\x01" if self.instance is None else b"\x00" + self.instance.encode() + b"\x00"
        return (
            b"CGMDv2:"
            + struct.pack("=i", self.generation)
            + self.group.encode()
            + b"\x00"
            + self.member.encode()
            + b"\x00"
            + instance
        )


class MembershipFormatError(ValueError):
    """The installed client writes the membership of a group in another format than `GroupMembership`."""


def check_membership_format(config: Mapping[str, Any]) -> None:
    """Compare `GroupMembership.encode` with what the installed client writes; connects to no broker.

    Parameters
    ----------
    config : mapping
        From `streams.kafka.clients.client_config`.

    Raises
    ------
    MembershipFormatError
        They differ, so that transactions with a worker's offsets would be refused.
    """
    for instance in (None, "instance"):
        expected = GroupMembership("group", -1, "", instance).encode()
        own = {"group.id": "group"} | ({} if instance is None else {"group.instance.id": instance})
        with closing(Consumer(dict(config) | own)) as consumer:
            actual = consumer.consumer_group_metadata()
        if actual != expected:
            raise MembershipFormatError(
                f"confluent-kafka {confluent_kafka.__version__}: its consumers write {actual!r} where "
                f"{expected!r} was expected, so brokers would refuse the router's transactions; install the "
                "version in constraints.txt"
            )
