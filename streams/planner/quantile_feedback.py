"""The correction of reserved quantiles by outcomes: absorbed from the ledgers, published when it changes."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from routing.budgets.cost_quantile import Offsets, absorb_answers, offset_of, quantile_level
from routing.planning.planner import Planner
from streams.ledger.record import LedgerRecord

log = structlog.get_logger(__name__)

MIN_CHANGE = 0.1
"""Change of the logarithm of a reservation that a new plan is published for; less is mostly chance."""


class QuantileFeedback:
    """Keeps the corrections of the reserved quantile between plans.

    The plan has the corrections of its last change and the totals of the ledgers at that time, so that
    another planner continues from there.

    Parameters
    ----------
    reserve : str
        The setting.
    """

    def __init__(self, reserve: str) -> None:
        self._level = quantile_level(reserve)
        self._offsets: Offsets | None = None

    def forget(self) -> None:
        """Continue from the plan in force at the next update."""
        self._offsets = None

    def update(self, planner: Planner, ledgers: Mapping[int, LedgerRecord]) -> None:
        """Absorb the ledgers of all lanes; record corrections that change reservations in the plan."""
        plan, level = planner.plan, self._level
        if level is None:
            if plan.reserve_offsets:
                planner.record_reserve_offsets({})
            return
        known = plan.reserve_offsets if self._offsets is None else self._offsets
        # every LLM begins at 0, so that the first answers of a new one count
        totals = {name: [0, 0] for name in plan.models}
        for record in ledgers.values():
            for name, (answers, above) in record.exceeded.items():
                sums = totals.setdefault(name, [0, 0])
                sums[0] += answers
                sums[1] += above
        self._offsets = absorb_answers(known, level, totals)
        if any(
            name not in plan.reserve_offsets
            or plan.reserve_offsets[name][0] != level
            or abs(offset_of(self._offsets, name, level) - offset_of(plan.reserve_offsets, name, level))
            >= MIN_CHANGE
            for name in self._offsets
        ):
            planner.record_reserve_offsets(self._offsets)
            log.info("reserve_corrected", offsets={n: one[1] for n, one in self._offsets.items() if one[1]})
