"""What outcomes say that routed queries really cost: money that the router could use again."""

from __future__ import annotations

from collections.abc import Mapping

from streams.kafka import reader_config
from streams.messages import Outcome, Refused, decode_outcome
from streams.settings import Settings
from streams.transactions import read_to_end

Paid = Mapping[tuple[int, int], Outcome]
"""By the partition and the offset that `routing` names: the first outcome of a query."""


def read_paid(settings: Settings, starts: Mapping[tuple[str, int], int]) -> Paid:
    """The outcomes that were written until now.

    Parameters
    ----------
    settings : Settings
    starts : mapping
        By topic and partition: the offset from which on to read, as `streams.topics.end_offsets`.

    Raises
    ------
    KafkaException
        They may not be read.
    """
    found: dict[tuple[int, int], Outcome] = {}
    for (topic, partition), start in starts.items():
        for message in read_to_end(reader_config(settings), topic, partition, start):
            try:
                outcome = decode_outcome(message.value())
            except Refused:
                continue  # the router refuses it, too
            if outcome.partition == partition:  # nor does it take one from elsewhere
                found.setdefault((outcome.partition, outcome.offset), outcome)
    return found
