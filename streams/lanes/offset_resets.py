"""Detection of consumer positions out of range, where aiokafka continues at the start of the log.

A position is out of range when the records there were deleted (retention, `kafka-delete-records`), or when
the topic was deleted and created again.
"""

from __future__ import annotations

from typing import Any

from aiokafka.consumer import subscription_state


class NotedState(subscription_state.TopicPartitionState):
    """State of an assigned partition that keeps a reset until `pop_reset`."""

    reset_position: int | None = None
    """Offset of the last reset; None if there was none, or a seek since."""

    def reset_to(self, position: int) -> None:
        """Continue at another offset. A committed offset, which aiokafka also sets here, is no reset."""
        reset = self.awaiting_reset
        super().reset_to(position)
        self.reset_position = position if reset else None

    def seek(self, position: int) -> None:
        """Continue at an offset that this program chose."""
        super().seek(position)
        self.reset_position = None


def record_resets() -> None:
    """Make aiokafka's consumers in this process keep resets."""
    subscription_state.TopicPartitionState = NotedState


def position_of(consumer: Any, partition: Any) -> int | None:
    """Return the offset of the next fetch of a partition, past markers; None if it has none yet."""
    state = _state(consumer, partition)
    return None if state is None or not state.has_valid_position else int(state.position)


def pop_reset(consumer: Any, partition: Any) -> int | None:
    """Return the offset of a partition's reset since the last call; None if there was none."""
    state = _state(consumer, partition)
    if state is None:
        return None
    position: int | None = getattr(state, "reset_position", None)
    state.reset_position = None
    return position


def _state(consumer: Any, partition: Any) -> Any:
    subscription = consumer._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return None
    if partition not in subscription.assignment.tps:
        return None
    return subscription.assignment.state_value(partition)
