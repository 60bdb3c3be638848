"""Read the costs of routed queries from the topic of outcomes."""

from __future__ import annotations

from collections.abc import Mapping

from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.reading import (
    read_to_end,
)
from streams.messages.outcome import (
    Outcome,
    decode_outcome,
)
from streams.messages.rejection import (
    RejectedMessage,
)

OutcomesByPosition = Mapping[tuple[int, int, int], Outcome]
"""The first outcome of each decision, by the partition, offset and attempt that its `routing` names."""


def read_outcome_costs(settings: Settings, starts: Mapping[tuple[str, int], int]) -> OutcomesByPosition:
    """Read the outcomes written until now.

    Parameters
    ----------
    settings : Settings
    starts : mapping
        First offset to read by topic and partition, as from `streams.kafka.topics.end_offsets`.

    Raises
    ------
    KafkaException
        The topic cannot be read.
    """
    outcomes: dict[tuple[int, int, int], Outcome] = {}
    for (topic, partition), start in starts.items():
        for message in read_to_end(reader_config(settings), topic, partition, start):
            try:
                outcome = decode_outcome(message.value())
            except RejectedMessage:
                continue  # the router rejects it, too
            if outcome.partition == partition:  # the router rejects others
                place = outcome.partition, outcome.offset, outcome.attempt
                outcomes.setdefault(place, outcome)
    return outcomes
