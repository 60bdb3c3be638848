"""Plans that do not contradict each other, outputs that follow them, samples that are sent once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from routing.plan import Plan
from streams.checks.landings import Landing
from streams.checks.logs import Entry
from streams.checks.verdict import Verdict
from streams.ledger import LedgerRecord
from streams.messages import Refused, decode_samples
from streams.plan_messages import PLAN_KEY, decode_plan


def read_plans(entries: Iterable[Entry], keyed: bool) -> list[Plan]:
    """The plans of a topic, oldest first; of the compacted one only those under the plan's key."""
    return [
        decode_plan(entry.value)
        for entry in entries
        if entry.value is not None and (not keyed or entry.key == PLAN_KEY)
    ]


class Prices:
    """What each version of the prices says, by every plan that is still there.

    Parameters
    ----------
    verdict : Verdict
    """

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._known: dict[int, dict[str, float]] = {}
        self._told: set[tuple[int, str]] = set()

    def follow(self, plans: Sequence[Plan]) -> None:
        """Take in the plans of a topic, in the order of its log."""
        for before, after in pairwise(plans):
            if after.revision <= before.revision or (after.period, after.version) < (
                before.period,
                before.version,
            ):
                self._verdict.add(
                    "plans", f"revision {after.revision} (period {after.period}, version {after.version}) "
                    f"came after {before.revision} (period {before.period}, version {before.version})",
                )  # fmt: skip
        for plan in plans:
            for model, price in zip(plan.models, plan.prices.tolist(), strict=True):
                self._see(plan.version, model, price, f"revision {plan.revision}")

    def land(self, landing: Landing) -> None:
        """An output was routed by the prices of its plan."""
        if landing.model is not None and landing.version is not None and landing.price is not None:
            self._see(landing.version, landing.model, landing.price, landing.entry.place)

    def _see(self, version: int, model: str, price: float, where: str) -> None:
        known = self._known.setdefault(version, {}).setdefault(model, price)
        if not np.isclose(known, price, rtol=1e-12, atol=0) and (version, model) not in self._told:
            self._told.add((version, model))
            self._verdict.add("plans", f"{where}: plan {version} has {model} at {price}; before at {known}")


def check_samples(entries: Iterable[Entry], ledgers: Sequence[LedgerRecord], verdict: Verdict) -> None:
    """No query was sampled twice: each lane's samples in a period are of stretches that follow each other.

    What still waited when a period began is sampled for that one as well.
    """
    reached: dict[tuple[int, int], int] = {}
    for entry in entries:
        try:
            header, quality, _ = decode_samples(entry.value)
            lane, period = int(header["lane"]), int(header["period"])
        except (Refused, KeyError, TypeError, ValueError):
            verdict.add("samples", f"{entry.place}: cannot be read")
            continue
        if "begin" not in header:
            continue
        begin, end = int(header["begin"]), int(header["end"])
        before = reached.get((lane, period), 0)
        if begin < before or len(quality) > max(0, end - begin):
            verdict.add(
                "samples", f"{entry.place}: {len(quality)} samples of lane {lane} from {begin} to {end}; "
                f"it had come to {before}",
            )  # fmt: skip
        reached[lane, period] = max(end, before)
    for (lane, _), end in reached.items():
        if lane < len(ledgers) and end > max(ledgers[lane].sampled, ledgers[lane].next):
            verdict.notes.append(f"lane {lane}: samples came while the topics were read")
