"""Faults around settlement: death while outcomes are settled, a planner that is silent or slow."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.faults import die_in_nth


@dataclass(frozen=True)
class DieInSettling:
    """Death in the n-th transaction that settles outcomes, in any lane.

    Parameters
    ----------
    batch : int
    moment : {"before", "flushed", "after"}
        Before anything is sent, with all sent and nothing committed, or right after the commit.
    """

    batch: int
    moment: str

    def __call__(self) -> None:
        die_in_nth(
            "_settle", lambda processor, arguments: processor._settlement.inbox, self.batch, self.moment
        )


@dataclass(frozen=True)
class DieInReturns:
    """Death in the n-th transaction that decides returned queries again, in any lane.

    Parameters
    ----------
    batch : int
    moment : {"before", "flushed", "after"}
        Before anything is sent, with all sent and nothing committed, or right after the commit.
    """

    batch: int
    moment: str

    def __call__(self) -> None:
        die_in_nth(
            "_decide_again",
            lambda processor, arguments: processor._settlement.returned,
            self.batch,
            self.moment,
        )


@dataclass(frozen=True)
class SilentPlanner:
    """A planner that does nothing; the lanes of its worker continue with the plan in force."""

    def __call__(self) -> None:
        from streams.planner.planner import PlannerProcessor

        def nothing(processor: PlannerProcessor, records: Any) -> bool:
            processor._last_round_at = time.monotonic()
            return False

        PlannerProcessor.process = nothing  # type: ignore[method-assign]


@dataclass(frozen=True)
class SlowLinearProgram:
    """The n-th linear program takes `seconds`, and logs the event "solving" when it begins.

    Parameters
    ----------
    seconds : float
    solve : int
    """

    seconds: float
    solve: int = 1

    def __call__(self) -> None:
        from routing.planning.counter_prices import CounterPricing

        prices, count = CounterPricing.prices, iter(range(1, 1 << 60))

        def slow(pricing: CounterPricing, *arguments: Any) -> Any:
            if next(count) == self.solve:
                print('{"event": "solving"}', flush=True)
                time.sleep(self.seconds)
            return prices(pricing, *arguments)

        CounterPricing.prices = slow  # type: ignore[method-assign]
