"""Access to the topics of one cluster: open a producer, read a partition, compare its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from confluent_kafka import Message

from streams.config.settings import Settings
from streams.kafka.clients import reader_config, transactional_config
from streams.kafka.offsets import Place, partitions_ending_before
from streams.kafka.reading import read_to_end
from streams.kafka.transactions import FencedProducer, TransactionalProducer


class TopicAccess:
    """Producers and readers of the cluster that the settings name.

    Processors get their producers and read back their topics through one object of this class, or of
    `streams.kafka.owned_lanes.OwnedLanes`. Tests pass an object with the same methods.

    Parameters
    ----------
    settings : Settings
    in_turn : bool
        The producers' transactions follow each other (`FencedProducer`).
    """

    def __init__(self, settings: Settings, *, in_turn: bool = False) -> None:
        self._settings, self._in_turn = settings, in_turn

    def open_producer(self, name: str) -> TransactionalProducer:
        """Open the producer of a transactional id and fence its former owner.

        Parameters
        ----------
        name : str
            Identifies the owner among those of this router, for example `lane-3`.
        """
        return FencedProducer(transactional_config(self._settings, name), in_turn=self._in_turn)

    def read(
        self, topic: str, partition: int = 0, start: int = 0, stop: int | None = None
    ) -> Iterator[Message]:
        """Read a partition up to its present end; see `streams.kafka.reading.read_to_end`."""
        return read_to_end(reader_config(self._settings), topic, partition, start, stop)

    def partitions_ending_before(self, offsets: Mapping[Place, int]) -> dict[Place, int]:
        """Return the ends of partitions that end before an offset."""
        return partitions_ending_before(reader_config(self._settings), offsets)
