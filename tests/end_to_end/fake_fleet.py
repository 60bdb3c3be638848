"""A fake fleet: outcomes sent to a router under test, and their effect on its ledgers."""

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

from routing.arrays import IntArray
from routing.budgets.money import to_usd
from streams.__main__ import main
from streams.audit.outputs import SERVED, OutputRecord
from streams.ledger.record import OUTCOME_KINDS
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.outcome import (
    Outcome,
    encode_outcome,
)
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import wait_for

CostOf = Callable[[OutputRecord], float]


def served(router: Router) -> list[OutputRecord]:
    """Return the queries on the LLMs' topics, in the order of partition and offset."""
    landed = router.landed
    return [landing for place in sorted(landed) for landing in landed[place] if landing.kind == SERVED]


def reserved(landing: OutputRecord, times: float = 1.0) -> float:
    """Return `times` the reservation, in USD."""
    return float(to_usd(landing.charge)) * times


def outcome_of(landing: OutputRecord, cost: float, quality: float | None = None, **other: Any) -> bytes:
    """Return the outcome of a routed query; `other` overrides fields."""
    fields = {"id": landing.id, "model": landing.model, "partition": landing.lane, "offset": landing.offset}
    return encode_outcome(Outcome(**{**fields, "cost": cost, "quality": quality, **other}))


def report(
    router: Router,
    landings: Iterable[OutputRecord],
    cost: CostOf = reserved,
    quality: Callable[[OutputRecord], float | None] = lambda landing: None,
) -> None:
    """Send the outcomes of queries."""
    for landing in landings:
        value = outcome_of(landing, cost(landing), quality(landing))
        router.producer.produce(router.topics.outcomes, value, partition=landing.lane)
        router.producer.poll(0)
    router.producer.flush(30)


def send_outcome(router: Router, value: bytes, partition: int = 0) -> None:
    """Send any value to the topic of outcomes."""
    router.producer.produce(router.topics.outcomes, value, partition=partition)
    router.producer.flush(30)


def outcome_count(router: Router, kind: str) -> int:
    """Return the number of outcomes of a kind in the ledgers."""
    return sum(record.outcomes.get(kind, 0) for record in router.ledgers().values())


def wait_for_outcomes(router: Router, **counts: int) -> None:
    """Wait until the ledgers have exactly these numbers of outcomes."""
    counts_now: dict[str, int] = {}

    def counted() -> bool:
        counts_now.update({kind: outcome_count(router, kind) for kind in OUTCOME_KINDS})
        return all(counts_now[kind] == count for kind, count in counts.items())

    try:
        wait_for(counted, 60, f"outcomes {counts} in the ledgers")
    except AssertionError as error:
        raise AssertionError(f"{error}; the ledgers have {counts_now}; {router.progress()}") from None


def wait_counted(router: Router) -> None:
    """Wait until the ledgers count every query that has an output, within one period."""
    wait_for(
        lambda: (
            total(router, "served").sum() + sum(r.account.unserved for r in router.ledgers().values())
            == len(router.landed)
        ),
        60,
        "the ledgers count all outputs",
    )


def total(router: Router, name: str, period: int | None = None) -> IntArray:
    """Sum a field of the accounts over the lanes, for a period or each lane's current one, [M]."""
    accounts = [
        account
        for record in router.ledgers().values()
        for account in record.accounts
        if account.period == period or (period is None and account is record.account)
    ]
    models = max([len(router.catalogue.names), *(len(account.charged) for account in accounts)])
    return sum((getattr(account.widened(models), name) for account in accounts), np.zeros(models, np.int64))


def available(router: Router) -> IntArray:
    """Return what each lane may still spend by the plan in force, [L, M] in picodollars."""
    plan, models = router.plan(), len(router.plan().models)
    records = router.ledgers()
    return np.stack(
        [records[lane].account.widened(models).available(plan.granted[lane]) for lane in range(plan.lanes)]
    )


def wait_until_granted(router: Router) -> None:
    """Wait until lanes hold the remaining budgets, and at most their targets."""

    def at_rest() -> bool:
        plan, available_now = router.plan(), available(router)
        remaining = np.maximum(plan.budgets - total(router, "charged"), 0)
        return bool((available_now <= plan.target).all() and (available_now.sum(0) >= 0.99 * remaining).all())

    wait_for(at_rest, 60, f"the remaining budgets are granted; {router.progress()}")


def rejected_outcomes(router: Router) -> list[tuple[dict[str, str], bytes | None]]:
    """Return the dead letters of outcomes: error headers and original values."""
    with router.logs() as logs:
        entries = list(logs.read(router.topics.outcomes_dlq))
    return [(split_dead_letter_headers(entry.headers)[1], entry.value) for entry in entries]


def command(router: Router, *arguments: str) -> str:
    """Run `python -m streams` for this router, check its status, and return its output."""
    printed = io.StringIO()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORT_")}
    with (
        mock.patch.dict(os.environ, {**environment, **router.variables}, clear=True),
        redirect_stdout(printed),
    ):
        status = main(list(arguments))
    assert status == 0, printed.getvalue()
    return printed.getvalue()


def apply(router: Router, models: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Publish a catalogue, follow the topics of its new LLMs, and return the command's output."""
    file = folder / f"catalogue-{len(list(folder.glob('catalogue-*')))}.yaml"
    file.write_text(yaml.safe_dump({"models": list(models)}), encoding="utf-8")
    printed = command(router, "plan", "apply", str(file), "--yes")
    router.observer.follow([line.split()[1] for line in printed.splitlines() if line.startswith("created ")])
    return printed


def rebudgeted(small: Small, folder: Path, times: float, **prices: float) -> Path:
    """Write a data set's catalogue with `times` its budgets, and with list prices if given."""
    data = small.prepared.catalogue.to_dict()
    models = [{**model, "budget_usd": model["budget_usd"] * times, **prices} for model in data["models"]]
    path = folder / "catalogue.yaml"
    path.write_text(yaml.safe_dump({**data, "models": models}), encoding="utf-8")
    return path
