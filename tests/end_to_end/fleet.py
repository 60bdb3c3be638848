"""What the LLMs' fleets report of a router under test: outcomes, and what came of them in its books."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import yaml

from routing.decision import IntArray
from routing.money import to_usd
from streams.__main__ import main
from streams.checks.landings import SERVED, Landing
from streams.dead_letters import split_dead_letter_headers
from streams.ledger import OUTCOME_KINDS
from streams.messages import Outcome, encode_outcome
from tests.end_to_end.data import Small
from tests.end_to_end.routers import Router
from tests.end_to_end.workers import wait_for

CostOf = Callable[[Landing], float]


def served(router: Router) -> list[Landing]:
    """Queries on an LLM's topic, in the order of their places."""
    landed = router.landed
    return [landing for place in sorted(landed) for landing in landed[place] if landing.kind == SERVED]


def reserved(landing: Landing, times: float = 1.0) -> float:
    """USD: so many times what was reserved."""
    return float(to_usd(landing.charge)) * times


def outcome_of(landing: Landing, cost: float, quality: float | None = None, **other: Any) -> bytes:
    """The outcome of a routed query; `other` has fields that shall say something else."""
    told = {"id": landing.id, "model": landing.model, "partition": landing.lane, "offset": landing.offset}
    return encode_outcome(Outcome(**{**told, "cost": cost, "quality": quality, **other}))


def report(
    router: Router,
    landings: Iterable[Landing],
    cost: CostOf = reserved,
    quality: Callable[[Landing], float | None] = lambda landing: None,
) -> None:
    """Put the outcomes of queries on their topic."""
    for landing in landings:
        value = outcome_of(landing, cost(landing), quality(landing))
        router.producer.produce(router.topics.outcomes, value, partition=landing.lane)
        router.producer.poll(0)
    router.producer.flush(30)


def tell(router: Router, value: bytes, partition: int = 0) -> None:
    """Put anything on the topic of outcomes."""
    router.producer.produce(router.topics.outcomes, value, partition=partition)
    router.producer.flush(30)


def told(router: Router, kind: str) -> int:
    """Outcomes of a kind that the ledgers have counted."""
    return sum(record.outcomes.get(kind, 0) for record in router.ledgers().values())


def wait_told(router: Router, **counts: int) -> None:
    """Wait until the ledgers have counted so many outcomes of each kind."""
    have: dict[str, int] = {}

    def counted() -> bool:
        have.update({kind: told(router, kind) for kind in OUTCOME_KINDS})
        return all(have[kind] == count for kind, count in counts.items())

    try:
        wait_for(counted, 60, f"outcomes {counts} in the ledgers")
    except AssertionError as error:
        raise AssertionError(f"{error}; they have {have}; {router.told()}") from None


def wait_counted(router: Router) -> None:
    """Wait until the ledgers that can be read here have all that has landed, in one period."""
    wait_for(
        lambda: (
            total(router, "served").sum() + sum(r.account.unserved for r in router.ledgers().values())
            == len(router.landed)
        ),
        60,
        "the ledgers count what has landed",
    )


def total(router: Router, name: str, period: int | None = None) -> IntArray:
    """A part of the accounts, summed over the lanes: of one period, or of each lane's current one; [M]."""
    accounts = [
        account
        for record in router.ledgers().values()
        for account in record.accounts
        if account.period == period or (period is None and account is record.account)
    ]
    models = max([len(router.catalogue.names), *(len(account.charged) for account in accounts)])
    return sum((getattr(one.widened(models), name) for one in accounts), np.zeros(models, np.int64))


def available(router: Router) -> IntArray:
    """What each lane may still spend by the plan in force, [L, M] in picodollars."""
    plan, models = router.plan(), len(router.plan().models)
    records = router.ledgers()
    return np.stack(
        [records[lane].account.widened(models).available(plan.granted[lane]) for lane in range(plan.lanes)]
    )


def wait_handed_out(router: Router) -> None:
    """Wait until lanes hold what is left of the budgets, and no more than they should."""

    def at_rest() -> bool:
        plan, held = router.plan(), available(router)
        left = np.maximum(plan.budgets - total(router, "charged"), 0)
        return bool((held <= plan.target).all() and (held.sum(0) >= 0.99 * left).all())

    wait_for(at_rest, 60, f"what is left of the budgets is handed out; {router.told()}")


def refusals(router: Router) -> list[tuple[dict[str, str], bytes | None]]:
    """What is on the dead-letter topic of outcomes: reasons, and the values as they came."""
    with router.logs() as logs:
        entries = list(logs.read(router.topics.outcomes_dlq))
    return [(split_dead_letter_headers(entry.headers)[1], entry.value) for entry in entries]


def command(router: Router, *arguments: str) -> str:
    """What `python -m streams` prints for this router; it must succeed."""
    printed = io.StringIO()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PORT_")}
    with mock.patch.dict(os.environ, {**ours, **router.variables}, clear=True), redirect_stdout(printed):
        status = main(list(arguments))
    assert status == 0, printed.getvalue()
    return printed.getvalue()


def apply(router: Router, models: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Publish another catalogue and see the topics of LLMs that it adds; what the command says."""
    file = folder / f"catalogue-{len(list(folder.glob('catalogue-*')))}.yaml"
    file.write_text(yaml.safe_dump({"models": list(models)}), encoding="utf-8")
    printed = command(router, "plan", "apply", str(file), "--yes")
    router.observer.follow([line.split()[1] for line in printed.splitlines() if line.startswith("created ")])
    return printed


def rebudgeted(small: Small, folder: Path, times: float, **prices: float) -> Path:
    """The catalogue of a data set with so many times its budgets, and list prices where they are given."""
    data = small.prepared.catalogue.to_dict()
    models = [{**model, "budget_usd": model["budget_usd"] * times, **prices} for model in data["models"]]
    path = folder / "catalogue.yaml"
    path.write_text(yaml.safe_dump({**data, "models": models}), encoding="utf-8")
    return path
