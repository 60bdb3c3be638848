"""Capacity model: from measured costs to the number of workers, lanes and routers for a rate.

A *cell* is a whole router: topics, planner, budgets and workers of its own. Within one, workers follow every
lane's ledger and every plan, so what they read grows with the lanes; beyond a size a second cell is cheaper
than a larger one. Budgets are split over cells by traffic, as they are over nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

PLANS_A_SECOND = 5.0
"""The planner hands out rights at each tick of 0.2 s, and every worker reads what changed."""


@dataclass(frozen=True)
class Costs:
    """Measured costs; times are CPU time of one core.

    Parameters
    ----------
    transport_us : float
        A query through a worker: fetched, decoded, decided, produced; embedding carried, estimate constant.
    transaction_ms : float
        A transaction of a lane, whatever is in it.
    estimate_us : float
        Beyond a constant estimate: neighbours, or the preset `fast` from the raw prompt.
    embed_us : float
        0 where embeddings are carried.
    plan_bytes, ledger_bytes : float
        A plan a lane, and a ledger's record.
    plan_decode_us, tick_us : float
        A plan's reading in a worker a lane, and the planner's tick a lane.
    ledger_read_us : float
        Reading another lane's record in a worker.
    query_bytes, routed_bytes, reservation_bytes : float
        What is written a query.
    """

    transport_us: float
    transaction_ms: float
    estimate_us: float
    embed_us: float
    plan_bytes: float
    ledger_bytes: float
    plan_decode_us: float
    tick_us: float
    ledger_read_us: float
    query_bytes: float
    routed_bytes: float
    reservation_bytes: float


@dataclass(frozen=True)
class Choice:
    """Configuration of a router.

    Parameters
    ----------
    busy : float
        Share of a worker's core that is used; the rest is for peaks and for a worker that died.
    lanes_a_worker : int
    transaction_seconds : float
        Least time between two transactions of a lane that are not full.
    batch_max : int
    deferred : float
        Share of queries that take the overflow lane.
    most_lanes : int
        Of a cell.
    """

    busy: float = 0.65
    lanes_a_worker: int = 4
    transaction_seconds: float = 0.1
    batch_max: int = 1000
    deferred: float = 0.01
    most_lanes: int = 256


@dataclass(frozen=True)
class Cell:
    """One router at a rate, with the load of its parts; shares are of one core or one lane."""

    rate: float
    workers: int
    lanes: int
    transactions: float
    worker_share: float
    planner_share: float
    follow_share: float
    overflow_share: float
    plan_mb_a_worker: float
    ledger_mb_a_worker: float
    kafka_in_mb: float


def cell(rate: float, costs: Costs, choice: Choice) -> Cell:
    """Return workers and lanes for a rate (queries/s) in one cell."""
    query = (costs.transport_us + costs.estimate_us + costs.embed_us) / 1e6
    workers = 1
    while True:
        lanes = workers * choice.lanes_a_worker
        lane_rate = rate / lanes
        a_lane = max(min(lane_rate, 1 / choice.transaction_seconds), lane_rate / choice.batch_max)
        follow = lanes * (PLANS_A_SECOND * costs.plan_decode_us + a_lane * costs.ledger_read_us) / 1e6
        own = (rate * (1 + choice.deferred) * query + lanes * a_lane * costs.transaction_ms / 1e3) / workers
        if own + follow <= choice.busy or lanes > choice.most_lanes:
            break
        workers += 1
    transactions = lanes * a_lane
    written = costs.query_bytes + costs.routed_bytes + costs.reservation_bytes
    return Cell(
        rate=rate,
        workers=workers,
        lanes=lanes,
        transactions=transactions,
        worker_share=own + follow,
        planner_share=PLANS_A_SECOND * costs.tick_us * lanes / 1e6,
        follow_share=follow,
        overflow_share=rate * choice.deferred * query,
        plan_mb_a_worker=PLANS_A_SECOND * costs.plan_bytes * lanes / 1e6,
        ledger_mb_a_worker=transactions * costs.ledger_bytes / 1e6,
        kafka_in_mb=(rate * written + transactions * costs.ledger_bytes) / 1e6,
    )


def plan_capacity(rate: float, costs: Costs, choice: Choice) -> dict[str, Any]:
    """Return the minimum number of cells in which no part exceeds its limit, and their totals."""
    cells = 1
    while True:
        one = cell(rate / cells, costs, choice)
        within_limits = (
            one.lanes <= choice.most_lanes
            and one.planner_share <= choice.busy
            and one.follow_share <= 0.1
            and one.overflow_share <= choice.busy
        )
        if within_limits:
            break
        cells += 1
    return {
        "rate": rate,
        "cells": cells,
        "workers": cells * one.workers,
        "lanes": cells * one.lanes,
        "kafka_in_mb_per_s": round(cells * one.kafka_in_mb, 1),
        "cell": {
            key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(one).items()
        },
    }


def fitted_line(lanes: np.ndarray, values: np.ndarray) -> float:
    """Return the cost that one lane adds."""
    return float(np.polyfit(lanes, values, 1)[0])
