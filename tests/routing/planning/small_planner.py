"""A small planner of three LLMs, and its inputs."""

from dataclasses import replace

import numpy as np

from routing.estimators.base import Estimates
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.plan import Plan

MODELS = ("a", "b", "c")
BUDGETS = np.array([0.02, 0.05, 0.01])


def random_estimates(n: int, seed: int = 0, models: int = 3) -> Estimates:
    random = np.random.default_rng(seed)
    return Estimates(random.random((n, models)), random.uniform(1e-5, 1e-3, (n, models)))


HISTORY = random_estimates(60, seed=9)


def make_planner(horizon: int = 400, **options) -> Planner:
    wiring = {name: options.pop(name) for name in ("lanes", "overflow", "history") if name in options}
    options.setdefault("eps", 0.05)
    planner = Planner(PlanningSettings(horizon=horizon, **options), MODELS, BUDGETS, **wiring)
    planner.start_period()
    return planner


def arrived(count: int, period: int = 1, **fields) -> Account:
    return replace(Account.fresh(period, 3), arrived=count, **fields)


def learn(planner: Planner, estimates: Estimates, cuts: list[int] = ()) -> list[Plan]:
    """Report one partition's queries to a planner in batches, as decided at once."""
    plans = []
    for start, stop in zip([0, *cuts], [*cuts, len(estimates)], strict=True):
        # Lanes stop when a solve is due, so a batch never reaches beyond it.
        while start < stop:
            end = min(stop, start + planner.missing_samples)
            planner.record_account(0, arrived(end if planner.plan.learned else 0))
            plans += planner.observe(estimates.rows(slice(start, end)))
            start = end
    return plans


def solved_at(plans: list[Plan]) -> list[int]:
    return [plan.solved_from.observed for plan in plans]


def same_prices(one: list[Plan], other: list[Plan]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.prices, b.prices) and (a.version, a.until) == (b.version, b.until)
        for a, b in zip(one, other, strict=True)
    )


def released(planner: Planner, lane: int) -> Account:
    """Return a lane's account after it gave back grants beyond its target."""
    return planner.accounts[lane].released_to(planner.plan.granted[lane], planner.plan.target[lane])
