"""What the router's parts cost one at a time, in memory: CPU time, and bytes of what they write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import load
from benchmarks.decisions import best_of, measured
from benchmarks.memory import Message
from benchmarks.worker import estimating
from routing.account import Account
from routing.datasets import load_demo
from routing.embedding import load_embedder
from routing.estimators.base import Estimates
from routing.fitting import fit
from routing.plan import Plan
from routing.planning import Planner, PlanningSettings
from routing.policy import route
from routing.presets import choose_preset
from streams.intake import QueryIntake
from streams.ledger import LedgerRecord
from streams.messages import decode_query, decode_samples, encode_routed, encode_samples
from streams.plan_messages import decode_plan, encode_plan
from streams.reservations import Reserved, encode_reserved, id_digests

BATCH = 500
MODELS = load.MODELS
ROUNDS = 5


def cpu(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """CPU seconds of this process for one call: the least of several, which other programs disturb least."""
    return best_of(rounds, run)[1]


def rich_plan(lanes: int, models: int) -> Plan:
    """A plan in which every lane can pay, with amounts as long as real ones."""
    rng = np.random.default_rng(0)
    rights = rng.integers(10**12, 10**15, (lanes, models))
    return Plan(
        period=12, version=345, revision=67_890, models=MODELS[:models], active=np.ones(models, bool),
        budgets=rights.sum(0), prices=rng.random(models) * 1e3, learned=True, granted=rights,
        target=rights // 7, overflow=lanes > 1, horizon=10**9,
    )  # fmt: skip


def query_costs(rows: int) -> dict[str, float]:
    """Microseconds a query: message in, neighbours, choice, message out; and bytes of what is written."""
    made = estimating("knn5", rows)
    values = load.messages(BATCH)
    records: list[Any] = [Message(i, value) for i, value in enumerate(values)]
    constant = estimating("constant", rows)
    bare = QueryIntake(constant.embedder, constant.dimension, constant.estimator)
    intake = QueryIntake(made.embedder, made.dimension, made.estimator)
    arrivals = intake.take(records)
    plan, offsets = rich_plan(1, len(MODELS)), np.arange(BATCH)
    account = Account.fresh(plan.period, len(MODELS))
    routed = route(account, plan, 0, arrivals.estimates, offsets)
    told = {"model": MODELS[0], "quality": 0.51234, "cost": 1.2345e-05, "price": 123.456, "plan": 345,
            "period": 12, "partition": 7, "offset": 123_456_789, "routed_at": 1_800_000_000.123}  # fmt: skip
    queries = [decode_query(value, load.DIMENSION) for value in values]
    sample = encode_samples(
        {"models": MODELS}, arrivals.estimates.quality, arrivals.estimates.cost, "<f8"
    )  # fmt: skip
    reserved = encode_reserved(
        Reserved(
            period=12, version=345, revision=67_890, offsets=offsets, model=routed.choice.clip(0),
            charge=routed.charge, quality=np.full(BATCH, 0.5), ids=id_digests([q.id for q in queries]),
            outcomes_next=10**6, available=account.available(plan.granted[0]), created_at=1.8e9,
            begin=0, end=BATCH,
        )
    )  # fmt: skip
    unit = 1e6 / BATCH
    intake_us = cpu(lambda: bare.take(records)) * unit
    return {
        "intake_us": intake_us,
        "neighbours_us": max(0.0, cpu(lambda: intake.take(records)) * unit - intake_us),
        "decide_us": cpu(lambda: route(account, plan, 0, arrivals.estimates, offsets)) * unit,
        "encode_us": cpu(lambda: [encode_routed(query, told) for query in queries]) * unit,
        "query_bytes": float(np.mean([len(value) for value in values])),
        "routed_bytes": float(np.mean([len(encode_routed(query, told)) for query in queries])),
        "reservation_bytes": len(reserved) / BATCH,
        "sample_bytes": len(sample) / BATCH,
        "sample_observe_us": cpu(lambda: observe(sample)) * unit,
    }


def observe(sample: bytes) -> None:
    """What the planner does with a message of samples, short of solving."""
    _, quality, cost = decode_samples(sample)
    Planner(PlanningSettings(10**9), MODELS, np.ones(len(MODELS))).observe(Estimates(quality, cost))


def plan_costs(lanes: tuple[int, ...], models: int) -> list[dict[str, float]]:
    """What a plan and the ledgers cost by the number of lanes."""
    found = []
    for count in lanes:
        plan = rich_plan(count, models)
        value = encode_plan(plan)
        account = replace(
            Account.fresh(12, models), charged=plan.granted[0] // 3, reserved=plan.granted[0] // 2,
            settled=plan.granted[0] // 4, served=plan.granted[0] // 10**9,
        )  # fmt: skip
        record = LedgerRecord(3, plan.models, account, next=10**9, sampled=10**9).encode()
        planner = Planner(
            PlanningSettings(10**9), plan.models, np.full(models, 1e6), lanes=count - 1, overflow=True
        )
        planner.start_period()

        def tick(planner: Planner = planner, value: bytes = record, count: int = count) -> None:
            for lane in range(count):
                planner.see(lane, LedgerRecord.decode(value).account)
            planner.hand_out()

        found.append(
            {
                "lanes": count,
                "models": models,
                "plan_bytes": len(value),
                "plan_encode_ms": 1e3 * cpu(lambda plan=plan: encode_plan(plan)),
                "plan_decode_ms": 1e3 * cpu(lambda value=value: decode_plan(value)),
                "ledger_bytes": len(record),
                "tick_ms": 1e3 * cpu(tick, 3),
            }
        )
    return found


EXACT_ROWS = 4000
"""The exact solution is not timed on more: its time grows faster than the rows (8 s at 4,000)."""


def solve_costs(rows: tuple[int, ...]) -> list[dict[str, float]]:
    """CPU seconds of a price solve by its number of samples, by Newton and, up to `EXACT_ROWS`, exact."""
    found = []
    for count in rows:
        rng = np.random.default_rng(1)
        models = len(MODELS)
        quality = np.clip(rng.normal(np.linspace(0.4, 0.8, models), 0.25, (count, models)), 0, 1)
        cost = np.exp(rng.normal(0, 0.3, (count, models))) * np.geomspace(1e-5, 1e-3, models)
        budgets = cost.mean(0) * count / models
        row: dict[str, float] = {"rows": count}
        for solver in ("exact", "newton") if count <= EXACT_ROWS else ("newton",):
            planner = Planner(PlanningSettings(count, solver=solver), MODELS, budgets)  # type: ignore[arg-type]
            row[f"{solver}_seconds"] = cpu(
                lambda p=planner, q=quality, c=cost, b=budgets: p.prices(Estimates(q, c), b), 2
            )
        found.append(row)
    return found


def embedding_costs(texts: int = 48) -> dict[str, float]:
    """A text's embedding by MiniLM on this CPU, its operations, and a decision by `fast` from raw prompts."""
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
    """Floating-point operations (1e9) of all-MiniLM-L6-v2 on a text, at most 256 tokens.

    Twice the weights of a layer (12 width squared) a token, and attention's 4 width a pair of tokens.
    """
    n = min(tokens, 256.0)
    return layers * (2 * 12 * width**2 * n + 4 * width * n**2) / 1e9
