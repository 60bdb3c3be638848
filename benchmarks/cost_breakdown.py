"""Cost of each part of the router, in memory: CPU time, and bytes written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import synthetic_queries
from benchmarks.decisions import best_of, measured
from benchmarks.memory import Message
from benchmarks.worker_process import estimating
from routing.datasets.demo import load_demo
from routing.embedding.embedder import load_embedder
from routing.estimators.base import Estimates
from routing.fitting.fit import fit
from routing.fitting.presets import choose_preset
from routing.planning.planner import Planner
from routing.planning.price_solver import solve_prices
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.plan import Plan
from routing.policy.policy import route
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch, encode_reservations, id_digests
from streams.messages.plan import decode_plan, encode_plan
from streams.messages.query import (
    decode_query,
    encode_routed,
)
from streams.messages.routing_columns import encode_rows
from streams.messages.routing_info import RoutingInfo
from streams.messages.samples import (
    decode_samples,
    encode_samples,
)
from streams.router.query_intake import QueryIntake

BATCH = 500
MODELS = synthetic_queries.MODELS
ROUNDS = 5


def cpu(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Return the CPU seconds of one call: the minimum of several, to exclude disturbances."""
    return best_of(rounds, run)[1]


def rich_plan(lanes: int, models: int) -> Plan:
    """Return a plan in which every lane can pay, with amounts of realistic length."""
    rng = np.random.default_rng(0)
    rights = rng.integers(10**12, 10**15, (lanes, models))
    return Plan(
        period=12,
        version=345,
        revision=67_890,
        models=MODELS[:models],
        active=np.ones(models, bool),
        budgets=rights.sum(0),
        prices=rng.random(models) * 1e3,
        learned=True,
        granted=rights,
        target=rights // 7,
        overflow=lanes > 1,
        horizon=10**9,
    )


def query_costs(rows: int) -> dict[str, float]:
    """Return microseconds per query by stage, and the bytes written."""
    estimation = estimating("knn5", rows)
    values = synthetic_queries.messages(BATCH)
    records: list[Any] = [Message(i, value) for i, value in enumerate(values)]
    constant = estimating("constant", rows)
    bare = QueryIntake(constant.embedder, constant.dimension, constant.estimator)
    intake = QueryIntake(estimation.embedder, estimation.dimension, estimation.estimator)
    arrivals = intake.decode(records)
    plan, offsets = rich_plan(1, len(MODELS)), np.arange(BATCH)
    account = Account.fresh(plan.period, len(MODELS))
    routed = route(account, plan, 0, arrivals.estimates, offsets)
    routing = RoutingInfo(
        plan=345,
        period=12,
        partition=7,
        routed_at=1_800_000_000.123,
        offset=123_456_789,
        model=MODELS[0],
        quality=0.51234,
        cost=1.2345e-05,
        price=123.456,
    )
    numbers = ("offset", "quality", "cost", "price")
    columns: dict[str, Any] = {name: np.full(BATCH, getattr(routing, name)) for name in numbers}
    columns["model"] = [routing.model] * BATCH
    queries = [decode_query(value, synthetic_queries.DIMENSION) for value in values]

    def encode() -> list[bytes]:
        return list(map(encode_routed, queries, encode_rows(routing, columns)))

    sample = encode_samples({"models": MODELS}, arrivals.estimates.quality, arrivals.estimates.cost, "<f8")
    reservation = encode_reservations(
        ReservationBatch(
            period=12,
            version=345,
            revision=67_890,
            offsets=offsets,
            model=routed.choice.clip(0),
            charge=routed.charge,
            quality=np.full(BATCH, 0.5),
            ids=id_digests([q.id for q in queries]),
            outcomes_next=10**6,
            available=account.available(plan.granted[0]),
            created_at=1.8e9,
            begin=0,
            end=BATCH,
        )
    )
    unit = 1e6 / BATCH
    intake_us = cpu(lambda: bare.decode(records)) * unit
    return {
        "intake_us": intake_us,
        "neighbours_us": max(0.0, cpu(lambda: intake.decode(records)) * unit - intake_us),
        "decide_us": cpu(lambda: route(account, plan, 0, arrivals.estimates, offsets)) * unit,
        "encode_us": cpu(encode) * unit,
        "query_bytes": float(np.mean([len(value) for value in values])),
        "routed_bytes": float(np.mean([len(value) for value in encode()])),
        "reservation_bytes": len(reservation) / BATCH,
        "sample_bytes": len(sample) / BATCH,
        "sample_observe_us": cpu(lambda: observe(sample)) * unit,
    }


def observe(sample: bytes) -> None:
    """Return the planner's cost of a message of samples, without solving."""
    _, quality, cost = decode_samples(sample)
    Planner(PlanningSettings(10**9), MODELS, np.ones(len(MODELS))).observe(Estimates(quality, cost))


def plan_costs(lanes: tuple[int, ...], models: int) -> list[dict[str, float]]:
    """Return the cost of a plan and of the ledgers by the number of lanes."""
    rows = []
    for count in lanes:
        plan = rich_plan(count, models)
        value = encode_plan(plan)
        account = replace(
            Account.fresh(12, models),
            charged=plan.granted[0] // 3,
            reserved=plan.granted[0] // 2,
            settled=plan.granted[0] // 4,
            served=plan.granted[0] // 10**9,
        )
        record = LedgerRecord(3, plan.models, account, next=10**9, sampled=10**9).encode()
        planner = Planner(
            PlanningSettings(10**9), plan.models, np.full(models, 1e6), lanes=count - 1, overflow=True
        )
        planner.start_period()

        def tick(planner: Planner = planner, value: bytes = record, count: int = count) -> None:
            for lane in range(count):
                planner.record_account(lane, LedgerRecord.decode(value).account)
            planner.update_grants()

        rows.append(
            {
                "lanes": count,
                "models": models,
                "plan_bytes": len(value),
                "plan_encode_ms": 1e3 * cpu(partial(encode_plan, plan)),
                "plan_decode_ms": 1e3 * cpu(partial(decode_plan, value)),
                "ledger_bytes": len(record),
                "tick_ms": 1e3 * cpu(tick, 3),
            }
        )
    return rows


EXACT_ROWS = 4000
"""Maximum rows for the exact solution; its time grows faster than the rows (8 s at 4,000)."""


def solve_costs(rows: tuple[int, ...]) -> list[dict[str, float]]:
    """Return the CPU seconds of a price solve by number of samples: Newton and, up to `EXACT_ROWS`, exact."""
    results = []
    for count in rows:
        rng = np.random.default_rng(1)
        models = len(MODELS)
        quality = np.clip(rng.normal(np.linspace(0.4, 0.8, models), 0.25, (count, models)), 0, 1)
        cost = np.exp(rng.normal(0, 0.3, (count, models))) * np.geomspace(1e-5, 1e-3, models)
        budgets = cost.mean(0) * count / models
        row: dict[str, float] = {"rows": count}
        for solver in ("exact", "newton") if count <= EXACT_ROWS else ("newton",):
            planner = Planner(PlanningSettings(count, solver=solver), MODELS, budgets)
            row[f"{solver}_seconds"] = cpu(
                partial(solve_prices, solver, planner.plan, Estimates(quality, cost), budgets), 2
            )
        results.append(row)
    return results


def embedding_costs(texts: int = 48) -> dict[str, float]:
    """Return the cost of a MiniLM embedding on this CPU, and of a decision by `fast` from raw prompts."""
    history, queries = load_demo()
    prompts = list(queries.prompts[:texts])
    embedder = load_embedder()
    embedder.embed(prompts[:4])
    minilm = cpu(lambda: embedder.embed(prompts), 2) / texts
    preset, _ = choose_preset(len(history), "fast")
    fitted = fit(history.history, preset, embeddings=history.embeddings)
    raw = list(queries.prompts)
    vectors = np.zeros((len(raw), history.embeddings.shape[1]), np.float32)
    fast = measured(fitted, raw, vectors, 256, 3, raw=True)
    return {
        "minilm_cpu_seconds_a_text": minilm,
        "characters_a_text": float(np.mean([len(prompt) for prompt in prompts])),
        "minilm_gflop_a_text": minilm_gflop(float(np.mean([len(prompt) for prompt in prompts])) / 4.5),
        "fast_decision_us": fast["decision_cpu_us"],
        "fast_history_rows": float(len(history)),
    }


def minilm_gflop(tokens: float, layers: int = 6, width: int = 384) -> float:
    """Return the floating-point operations (1e9) of all-MiniLM-L6-v2 on a text of at most 256 tokens.

    Twice the weights of a layer (12 width squared) a token, and attention's 4 width a pair of tokens.
    """
    n = min(tokens, 256.0)
    return layers * (2 * 12 * width**2 * n + 4 * width * n**2) / 1e9
