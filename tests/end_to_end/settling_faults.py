"""Faults around money: death while outcomes are taken in, a planner that is silent or slow."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.faults import die_in_commit


@dataclass(frozen=True)
class DieInSettling:
    """Death in the n-th transaction that takes outcomes in, in any lane.

    Parameters
    ----------
    batch : int
    moment : {"before", "flushed", "after"}
        Before anything is sent, with all sent and nothing committed, or right after the commit.
    """

    batch: int
    moment: str

    def __call__(self) -> None:
        from streams.router import RouterDesk
        from streams.transactions import FencedProducer

        settle, count = RouterDesk._settle, iter(range(1, 1 << 60))
        armed: list[FencedProducer] = []

        def arming(desk: RouterDesk, record: Any) -> Any:
            if desk._settlement.inbox and next(count) == self.batch and desk._producer is not None:
                armed.append(desk._producer)
            return settle(desk, record)

        RouterDesk._settle = arming  # type: ignore[method-assign]
        die_in_commit(armed, self.moment)


@dataclass(frozen=True)
class SilentPlanner:
    """A planner that does nothing, while the lanes of its worker go on by the plan in force."""

    def __call__(self) -> None:
        from streams.planner import PlannerDesk

        def nothing(desk: PlannerDesk, records: Any) -> None:
            desk._looked = time.monotonic()

        PlannerDesk.step = nothing  # type: ignore[method-assign]


@dataclass(frozen=True)
class SlowLinearProgramme:
    """The n-th linear programme takes this long, and is told of when it begins: event "solving".

    Parameters
    ----------
    seconds : float
    solve : int
    """

    seconds: float
    solve: int = 1

    def __call__(self) -> None:
        from routing.planning import Planner

        prices, count = Planner.prices, iter(range(1, 1 << 60))

        def slow(planner: Planner, *arguments: Any) -> Any:
            if next(count) == self.solve:
                print('{"event": "solving"}', flush=True)
                time.sleep(self.seconds)
            return prices(planner, *arguments)

        Planner.prices = slow  # type: ignore[method-assign]
