"""Budgets of all kinds at once, for the routers of chaos campaigns."""

from __future__ import annotations

from collections import Counter

import yaml

from producers.evaluation.prepared_data import CATALOGUE
from streams.audit.bills import newest_bills
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import Small

TEAMS = ("search", "ads", "late", "")
"""Values whose queries come from every partition; "" stands for a query without one."""


def add_all_kinds(small: Small) -> None:
    """Add budgets of every kind to a prepared catalogue, in which each LLM has one of its own.

    The total, the provider and the teams get so little that each of them is spent in some period.
    """
    path = small.folder / CATALOGUE
    data = yaml.safe_load(path.read_text())
    names = [model["name"] for model in data["models"]]
    total = sum(model["budget_usd"] for model in data["models"])
    data["budget_usd"] = 0.8 * total
    data["budgets"] = [
        {"name": "provider", "models": names[: len(names) // 2], "limit_usd": 0.3 * total},
        {
            "name": "team",
            "group_by": "metadata.team",
            "limits": {"search": 0.3 * total, "ads": 0.15 * total},
            "default": 0.1 * total,
        },
        {"name": "rate", "models": names[-1:], "limit_queries": 1200, "per": "minute", "burst": 60},
        {"name": "few", "models": names[2:4], "limit_queries": 300},
        {"name": "tokens", "models": names[:2], "limit_tokens": 400_000},
    ]
    path.write_text(yaml.safe_dump(data))


def charged_by_budget(router: Router) -> Counter[str]:
    """Return what each budget was charged over all periods, in its smallest unit, by the newest bills."""
    with router.logs() as logs:
        bills = newest_bills(logs.read(router.topics.periods))
    charged: Counter[str] = Counter()
    for bill in bills.values():
        for one in bill.counters:
            charged[one.budget] += one.charged
    return charged
