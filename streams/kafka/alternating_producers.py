"""A worker's transactional producers: two whose transactions take turns.

A coordinator answers a commit before it has completed the transaction. Until then it refuses the next
transaction of the same producer, and librdkafka asks again after 20 ms. Another producer does not wait.
A transaction begins only after the one before has ended, so their order is that of a single producer.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

from streams.kafka.transactions import FencedProducer

SUFFIXES = ("", "-2")
"""Of the transactional ids of one worker."""


class AlternatingProducers:
    """The only producers of a worker's transactional ids. Later ones of the same ids fence them.

    Parameters
    ----------
    config : mapping
        Of the first producer, from `streams.kafka.clients.round_config`. The second has another id.

    Raises
    ------
    KafkaException
        As `FencedProducer`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        first = config["transactional.id"]
        self._turns = cycle(
            [FencedProducer({**config, "transactional.id": first + suffix}) for suffix in SUFFIXES]
        )

    def next(self) -> FencedProducer:
        """Return the producer of the next transaction. The last one must have ended."""
        return next(self._turns)
