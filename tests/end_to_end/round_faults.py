"""Faults in the middle of a transaction: after the offsets were sent, before the commit."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.worker_process import Worker

KILL, FREEZE, HOLD = signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMIN + 2
"""Signals to a worker with `FaultsInRounds`."""


@dataclass(frozen=True)
class FaultsInRounds:
    """A worker that dies, freezes or waits in its next transaction when it gets a signal.

    With a transaction per worker, the transaction is a round whose offsets are sent and not committed.

    Parameters
    ----------
    hold_seconds : float
        Wait of `HOLD`, for example until the group has rebalanced.
    """

    hold_seconds: float = 2.0

    def __call__(self) -> None:
        from streams.kafka.transactions import FencedProducer

        due: list[int] = []
        for number in (KILL, FREEZE, HOLD):
            signal.signal(number, lambda received, frame: due.append(received))
        commit = FencedProducer.commit

        def faulty(producer: FencedProducer, *arguments: Any) -> None:
            while due:
                fault = due.pop()
                os.write(2, b'{"event": "fault_in_round", "signal": %d}\n' % (fault - signal.SIGRTMIN))
                if fault == KILL:
                    os.kill(os.getpid(), signal.SIGKILL)
                elif fault == FREEZE:
                    os.kill(os.getpid(), signal.SIGSTOP)
                else:
                    time.sleep(self.hold_seconds)
            commit(producer, *arguments)

        FencedProducer.commit = faulty  # type: ignore[method-assign]


def met(worker: Worker, fault: int) -> int:
    """Return how often a worker has met a fault in a transaction."""
    number = fault - signal.SIGRTMIN
    return sum(event["signal"] == number for event in worker.events("fault_in_round"))
