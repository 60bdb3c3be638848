"""The capacity model uses all of its inputs, and its result fits the measurements."""

from dataclasses import replace

import pytest

from benchmarks.capacity import Choice, Costs, cell, plan_capacity

COSTS = Costs(
    transport_us=40,
    transaction_ms=2,
    estimate_us=80,
    embed_us=0,
    plan_bytes=350,
    ledger_bytes=1900,
    plan_decode_us=1.1,
    tick_us=25,
    ledger_read_us=8,
    query_bytes=1500,
    routed_bytes=1700,
    reservation_bytes=40,
)


@pytest.mark.parametrize("rate", [1, 500, 20_000, 1_000_000])
def test_capacity_cell_stays_within_limits(rate: float):
    choice = Choice()
    capacity = plan_capacity(rate, COSTS, choice)
    one = capacity["cell"]

    assert one["worker_share"] <= choice.busy
    assert one["planner_share"] <= choice.busy
    assert one["overflow_share"] <= choice.busy
    assert one["lanes"] <= choice.most_lanes
    assert one["rate"] * capacity["cells"] == pytest.approx(rate)
    assert capacity["workers"] == capacity["cells"] * one["workers"]


def test_capacity_cell_uses_the_fewest_workers():
    one = cell(20_000, COSTS, Choice())
    # what queries alone take; transactions and following come on top
    least = 20_000 * 1.01 * 120e-6 / Choice().busy

    assert least <= one.workers <= 1.5 * least + 1


@pytest.mark.parametrize("name", ["transport_us", "transaction_ms", "estimate_us", "embed_us"])
def test_capacity_higher_costs_need_more_workers(name: str):
    dearer = replace(COSTS, **{name: 10 * (getattr(COSTS, name) + 10)})

    assert (
        plan_capacity(50_000, dearer, Choice())["workers"] > plan_capacity(50_000, COSTS, Choice())["workers"]
    )


def test_capacity_expensive_plan_shrinks_cells():
    for name in ("plan_decode_us", "tick_us", "ledger_read_us"):
        dearer = replace(COSTS, **{name: 200 * getattr(COSTS, name)})
        assert (
            plan_capacity(10**6, dearer, Choice())["cells"] > plan_capacity(10**6, COSTS, Choice())["cells"]
        )


def test_capacity_transactions_are_limited_by_time_then_batch_size():
    slow, fast = cell(10, COSTS, Choice()), cell(10, COSTS, Choice(lanes_a_worker=1))
    assert slow.transactions == pytest.approx(10)  # a query each
    assert fast.transactions == pytest.approx(10)
    full = cell(30_000, COSTS, Choice(lanes_a_worker=1))
    assert full.transactions == pytest.approx(max(10 * full.lanes, 30), rel=0.01)
