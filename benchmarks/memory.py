"""The decision alone, in memory: intake, estimates and choice, without Kafka."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import synthetic_queries
from benchmarks.worker_process import estimating
from routing.policy.account import Account
from routing.policy.plan import Plan
from routing.policy.policy import route
from streams.router.query_intake import QueryIntake

BATCH = 1000


@dataclass
class Message:
    """A record that does not come from a broker."""

    offset: int
    value: bytes
    topic: str = "queries"
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple[()] = ()


def decisions_per_second(estimator: str, rows: int, count: int) -> float:
    """Return queries/s of decoding, estimation and choice in batches of 1,000, without the first batch."""
    estimation = estimating(estimator, rows)
    intake = QueryIntake(estimation.embedder, estimation.dimension, estimation.estimator)
    models = len(synthetic_queries.MODELS)
    rich = np.full((1, models), 10**18 // models, dtype=np.int64)
    plan = Plan(
        period=1,
        version=1,
        revision=1,
        models=synthetic_queries.MODELS,
        active=np.ones(models, bool),
        budgets=rich[0],
        prices=np.full(models, 1.0),
        learned=True,
        granted=rich,
        target=rich,
        overflow=False,
        horizon=10**9,
    )
    records: list[Any] = [
        Message(i, value) for i, value in enumerate(synthetic_queries.messages(count + BATCH, seed=3))
    ]
    account, began = Account.fresh(1, models), 0.0
    for start in range(0, len(records), BATCH):
        if start == BATCH:
            began = time.perf_counter()
        arrivals = intake.decode(records[start : start + BATCH])
        offsets = np.arange(start, start + len(arrivals.queries))
        account = route(account, plan, 0, arrivals.estimates, offsets).account
    return count / (time.perf_counter() - began)
