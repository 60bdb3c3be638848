"""The cluster in numbers: money, queries and errors by LLM, out of the plan and every lane's ledger.

What the page, the metrics and the timeline show; any worker can make it, for both are on compacted topics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from routing.account import Account
from routing.decision import IntArray
from routing.money import to_usd
from routing.plan import Plan
from streams.ledger import LedgerRecord


@dataclass(frozen=True)
class ModelOverview:
    """One LLM in the current period, over all lanes.

    Parameters
    ----------
    name : str
    active : bool
        It may be chosen.
    price : float
        Quality per USD, of the plan in force.
    budget : float
        USD for the period.
    granted : float
        USD that lanes hold or have spent: granted less given back.
    charged : float
        USD settled plus what is reserved and open: what counts against the budget.
    reserved : float
        USD reserved for queries whose outcome has not come.
    settled : float
        USD that settled queries really cost.
    left : float
        USD of the budget not charged; negative when outcomes were dearer than reserved.
    served, settlements, lapsed : int
        Queries routed to it; those settled; those given up without an outcome.
    cost_error : float or None
        What settled queries cost over what was reserved for them, less 1.
    reported : int
        Outcomes that carried a quality, since the beginning.
    quality_reported, quality_estimated : float or None
        Their mean quality, and what was estimated for the same queries.
    """

    name: str
    active: bool
    price: float
    budget: float
    granted: float
    charged: float
    reserved: float
    settled: float
    left: float
    served: int
    settlements: int
    lapsed: int
    cost_error: float | None = None
    reported: int = 0
    quality_reported: float | None = None
    quality_estimated: float | None = None


@dataclass(frozen=True)
class Overview:
    """The current period over all lanes.

    Parameters
    ----------
    period, version, revision : int
        Of the plan in force.
    learned : bool
        There are prices.
    began_at, created_at : float
        When the period began and when the plan was made; seconds since the epoch.
    horizon : int
        Queries the period is planned for.
    progress : float
        Share of the period that is over, by queries or by time; above 1 when it is late to end.
    models : tuple of ModelOverview
    arrived, served, unserved, deferred, dead : int
        Queries of the period; a deferred query is counted once in `arrived`.
    outcomes : dict of str to int
        Since the beginning, by what became of them.
    """

    period: int
    version: int
    revision: int
    learned: bool
    began_at: float
    created_at: float
    horizon: int
    progress: float
    models: tuple[ModelOverview, ...]
    arrived: int = 0
    served: int = 0
    unserved: int = 0
    deferred: int = 0
    dead: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)


def survey(
    plan: Plan, ledgers: Mapping[int, LedgerRecord], now: float, period_seconds: float | None = None
) -> Overview:
    """Sum up the plan's period.

    Parameters
    ----------
    plan : Plan
    ledgers : mapping of int to LedgerRecord
        By lane.
    now : float
        Seconds since the epoch.
    period_seconds : float, optional
        Length of a period; without it a period is `plan.horizon` queries.
    """
    count = len(plan.models)
    accounts = [
        account.widened(count)
        for ledger in ledgers.values()
        if (account := ledger.account_of(plan.period)) is not None
    ]
    granted = plan.granted.sum(0) - _total(accounts, "released", count)
    charged, settled = _total(accounts, "charged", count), _total(accounts, "settled", count)
    reserved = _total(accounts, "reserved", count)
    served, settlements = _total(accounts, "served", count), _total(accounts, "settlements", count)
    lapsed = _total(accounts, "lapsed", count)
    paid_for = reserved - (charged - settled)  # what had been reserved for the settled ones
    reported = _reported(ledgers.values())
    models = []
    for i, name in enumerate(plan.models):
        number, quality, estimated = reported.get(name, (0, 0.0, 0.0))
        models.append(
            ModelOverview(
                name=name,
                active=bool(plan.active[i]),
                price=float(plan.prices[i]),
                budget=float(to_usd(plan.budgets[i])),
                granted=float(to_usd(granted[i])),
                charged=float(to_usd(charged[i])),
                reserved=float(to_usd(charged[i] - settled[i])),
                settled=float(to_usd(settled[i])),
                left=float(to_usd(plan.budgets[i] - charged[i])),
                served=int(served[i]),
                settlements=int(settlements[i]),
                lapsed=int(lapsed[i]),
                cost_error=float(settled[i] / paid_for[i] - 1) if paid_for[i] > 0 else None,
                reported=int(number),
                quality_reported=quality / number if number else None,
                quality_estimated=estimated / number if number else None,
            )
        )
    deferred = sum(account.deferred for account in accounts)
    arrived = sum(account.arrived for account in accounts) - deferred
    if period_seconds is None:
        progress = arrived / plan.horizon
    else:
        progress = max(0.0, now - plan.began_at) / period_seconds
    return Overview(
        period=plan.period,
        version=plan.version,
        revision=plan.revision,
        learned=plan.learned,
        began_at=plan.began_at,
        created_at=plan.created_at,
        horizon=plan.horizon,
        progress=progress,
        models=tuple(models),
        arrived=arrived,
        served=int(served.sum()),
        unserved=sum(account.unserved for account in accounts),
        deferred=deferred,
        dead=sum(account.dead for account in accounts),
        outcomes=dict(sum((Counter(ledger.outcomes) for ledger in ledgers.values()), Counter())),
    )


def _total(accounts: list[Account], name: str, count: int) -> IntArray:
    return sum((getattr(account, name) for account in accounts), np.zeros(count, dtype=np.int64))


def _reported(ledgers: Iterable[LedgerRecord]) -> dict[str, tuple[float, float, float]]:
    """By LLM: outcomes with a quality, the sum of those qualities, the sum of the estimates for them."""
    sums: dict[str, tuple[float, float, float]] = {}
    for ledger in ledgers:
        for name, values in ledger.reported.items():
            known = sums.get(name, (0.0, 0.0, 0.0))
            sums[name] = (known[0] + values[0], known[1] + values[1], known[2] + values[2])
    return sums
