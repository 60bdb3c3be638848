"""A sample cluster whose real costs exceed two budgets, with short past periods."""

from typing import Any

from streams.ledger.period_summary import PeriodSummary
from streams.operations.period_bills import bill_of
from tests.streams.sample_cluster import USD
from tests.streams.web.conftest import NOW, made_up_state

NAMES = (
    "gpt-4-1106-preview",
    "claude-v2",
    "mistralai/mixtral-8x7b-chat",
    "gpt-3.5-turbo-1106",
    "claude-v1",
    "meta/llama-2-70b-chat",
    "zero-one-ai/Yi-34B-Chat",
    "WizardLM/WizardLM-13B-V1.2",
    "claude-instant-v1",
    "mistralai/mistral-7b-chat",
    "meta/code-llama-instruct-34b-chat",
)
BUDGET = 2.0
USED = (2.32, 2.75, 0.6, 0.55, 0.7, 0.5, 0.45, 0.62, 0.66, 0.4, 0.58)
"""Shares of the budgets that answers cost; half of each was reserved for, and the period is 60 % over."""


def summary(period: int, **changes: Any) -> PeriodSummary:
    """A past period in which the first LLM ended at 232 % of its budget."""
    shares = [int(share * BUDGET * USD) for share in (2.32, *[0.9] * (len(NAMES) - 1))]
    counts = [40] * len(NAMES)
    fields: dict[str, Any] = {
        "period": period,
        "closed": True,
        "settling": False,
        "models": NAMES,
        "budgets": [int(BUDGET * USD)] * len(NAMES),
        "reserved": [int(0.9 * BUDGET * USD)] * len(NAMES),
        "settled": shares,
        "charged": shares,
        "served": counts,
        "settlements": counts,
        "lapsed": [0] * len(NAMES),
        "arrived": 470,
        "unserved": 30,
        "deferred": 0,
        "dead": 2,
    }
    return PeriodSummary(**{**fields, **changes})


def overspent_bills() -> list[dict[str, Any]]:
    """Two past periods, and the current one with two LLMs above their budgets."""
    settled = [int(share * BUDGET * USD) for share in USED]
    now = summary(9, closed=False, settling=True, settled=settled, charged=settled, arrived=300)
    return [bill_of(one) for one in (summary(7), summary(8), now)]


def overspent_state(progress: float = 0.6) -> dict[str, Any]:
    """Period 9."""
    state = made_up_state()
    models = []
    for i, (name, used) in enumerate(zip(NAMES, USED, strict=True)):
        share = min(used, used * progress / 0.6)
        spent = share * BUDGET
        models.append(
            {
                **state["overview"]["models"][0],
                "name": name,
                "active": True,
                "budget": BUDGET,
                "price": 100.0 + i,
                "granted": BUDGET,
                "charged": spent,
                "settled": spent,
                "reserved": 0.0,
                "left": BUDGET - spent,
                "served": 200 - 10 * i,
                "settlements": 200 - 10 * i,
                "lapsed": 0,
                "cost_error": used - 0.5,
                "unanswered": 12 if i == 1 else 0,
                "reported": 0,
                "quality_reported": None,
            }
        )
    overview = {
        **state["overview"],
        "period": 9,
        "progress": progress,
        "models": models,
        "arrived": 300,
        "served": 270,
        "unserved": 30,
    }
    return {**state, "overview": overview, "oldest_open": {NAMES[1]: NOW - 700}}


def overspent_timeline(bursts: bool = False) -> list[dict[str, Any]]:
    """Points of period 9; with `bursts`, queries came within two of its stretches only."""
    points = []
    for i in range(1, 13):
        part = i / 12
        counted = (i >= 4) * 0.5 + (i >= 9) * 0.5 if bursts else part
        points.append(
            {
                "at": NOW - 10 * (13 - i),
                "period": 9,
                "version": 7,
                "began_at": NOW - 130,
                "progress": 0.6 * part,
                "arrived": 300 * counted,
                "unserved": 30 * counted,
                "deferred": 0,
                "dead": 0,
                "lag": 0,
                "models": list(NAMES),
                "budget": [BUDGET] * len(NAMES),
                "price": [1.0] * len(NAMES),
                "charged": [used * BUDGET * part for used in USED],
                "settled": [used * BUDGET * part for used in USED],
                "reported": [0] * len(NAMES),
                "served": [(20 - i) * counted for i in range(len(NAMES))],
            }
        )
    return points


def overspent_answers(bursts: bool = False, progress: float = 0.6) -> dict[str, Any]:
    """Return the data that the page requests."""
    return {
        "state": lambda: overspent_state(progress),
        "timeline": lambda: overspent_timeline(bursts) if progress > 0.1 else [],
        "periods": overspent_bills,
        "dead-letters": list,
        "plans": list,
    }
