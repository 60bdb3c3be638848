"""Check of plans, of the prices that queries were routed by, and of samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from routing.policy.plan import Plan
from streams.audit.findings import Findings
from streams.audit.outputs import OutputRecord
from streams.audit.topic_records import TopicRecord
from streams.ledger.record import LedgerRecord
from streams.messages.plan import PlanAssembler, decode_plan
from streams.messages.rejection import (
    RejectedMessage,
)
from streams.messages.samples import (
    decode_samples,
)


def read_plans(entries: Iterable[TopicRecord], keyed: bool) -> list[Plan]:
    """Return the plans of a topic, oldest first; `keyed` assembles those of the compacted topic."""
    if not keyed:
        return [decode_plan(entry.value) for entry in entries if entry.value is not None]
    assembler = PlanAssembler()
    plans = [assembler.append(entry.key, entry.value) for entry in entries]
    return [plan for plan in plans if plan is not None]


class PlanPrices:
    """Prices of each plan version, from all plans and outputs.

    Parameters
    ----------
    findings : Findings
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._prices: dict[int, dict[str, float]] = {}
        self._reported: set[tuple[int, str]] = set()
        self._shared: set[int] = set()
        """Versions with budgets that several LLMs draw on."""

    def record_plans(self, plans: Sequence[Plan]) -> None:
        """Record the plans of a topic in the order of its log, and check their order."""
        for before, after in pairwise(plans):
            if after.revision <= before.revision or (after.period, after.version) < (
                before.period,
                before.version,
            ):
                self._findings.add(
                    "plans",
                    f"revision {after.revision} (period {after.period}, version {after.version}) "
                    f"came after {before.revision} (period {before.period}, version {before.version})",
                )
        for plan in plans:
            if not plan.per_llm:
                self._shared.add(plan.version)
            for name, price in zip(plan.counters.names, plan.prices.tolist(), strict=True):
                self._compare(plan.version, name, price, f"revision {plan.revision}")

    def record_output(self, output: OutputRecord) -> None:
        """Record the price that a query was routed by."""
        # with shared budgets, a query's price is the sum over its counters
        if output.version in self._shared:
            return
        if output.model is not None and output.version is not None and output.price is not None:
            self._compare(output.version, output.model, output.price, output.entry.place)

    def _compare(self, version: int, model: str, price: float, position: str) -> None:
        first = self._prices.setdefault(version, {}).setdefault(model, price)
        if not np.isclose(first, price, rtol=1e-12, atol=0) and (version, model) not in self._reported:
            self._reported.add((version, model))
            self._findings.add(
                "plans", f"{position}: plan {version} has {model} at {price}; before at {first}"
            )


def check_samples(
    entries: Iterable[TopicRecord], ledgers: Sequence[LedgerRecord], findings: Findings
) -> None:
    """Check that no query was sampled twice: batches of samples of a lane and period must not overlap.

    Queries that waited when a period began are sampled again for that period.
    """
    sampled_up_to: dict[tuple[int, int], int] = {}
    for entry in entries:
        try:
            header, quality, _ = decode_samples(entry.value)
            lane, period = int(header["lane"]), int(header["period"])
        except (RejectedMessage, KeyError, TypeError, ValueError):
            findings.add("samples", f"{entry.place}: cannot be read")
            continue
        if "begin" not in header:
            continue
        begin, end = int(header["begin"]), int(header["end"])
        before = sampled_up_to.get((lane, period), 0)
        if begin < before or len(quality) > max(0, end - begin):
            findings.add(
                "samples",
                f"{entry.place}: {len(quality)} samples of lane {lane} from {begin} to {end}; "
                f"it had sampled up to {before}",
            )
        sampled_up_to[lane, period] = max(end, before)
    for (lane, _), end in sampled_up_to.items():
        if lane < len(ledgers) and end > max(ledgers[lane].sampled, ledgers[lane].next):
            findings.notes.append(f"lane {lane}: samples were sent while the topics were read")
