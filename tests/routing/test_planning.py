"""When prices are learned, from what, and that another planner goes on from a plan as if nothing happened."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.account import Account
from routing.estimators.base import Estimates
from routing.money import to_pico
from routing.plan import Plan
from routing.planning import Planner, PlanningSettings
from routing.prices import solve_lp
from routing.samples import KEEP_ROWS
from routing.traffic import LOOKS_TO_KNOW

MODELS = ("a", "b", "c")
BUDGETS = np.array([0.02, 0.05, 0.01])


def random_estimates(n: int, seed: int = 0, models: int = 3) -> Estimates:
    random = np.random.default_rng(seed)
    return Estimates(random.random((n, models)), random.uniform(1e-5, 1e-3, (n, models)))


HISTORY = random_estimates(60, seed=9)


def planner(horizon: int = 400, **options) -> Planner:
    wiring = {name: options.pop(name) for name in ("lanes", "overflow", "history") if name in options}
    options.setdefault("eps", 0.05)
    made = Planner(PlanningSettings(horizon=horizon, **options), MODELS, BUDGETS, **wiring)
    made.start_period()
    return made


def arrived(count: int, period: int = 1, **fields) -> Account:
    return replace(Account.fresh(period, 3), arrived=count, **fields)


def learn(made: Planner, estimates: Estimates, cuts: list[int] = ()) -> list[Plan]:
    """Give one partition's queries to a planner in batches, as decided when they are told."""
    plans = []
    for start, stop in zip([0, *cuts], [*cuts, len(estimates)], strict=True):
        # lanes stop where a solve is due, so that a batch never reaches beyond it
        while start < stop:
            end = min(stop, start + made.missing_samples)
            made.see(0, arrived(end if made.plan.learned else 0))
            plans += made.observe(estimates.rows(slice(start, end)))
            start = end
    return plans


def solved_at(plans: list[Plan]) -> list[int]:
    return [plan.solved_from["observed"] for plan in plans]


def same_prices(one: list[Plan], other: list[Plan]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.prices, b.prices) and (a.version, a.until) == (b.version, b.until)
        for a, b in zip(one, other, strict=True)
    )


# --- when ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("horizon", "eps", "queries"),
    [(1000, 0.025, 25), (10_000, 0.025, 250), (1001, 0.025, 26), (3, 0.01, 1), (7, 1.0, 7)],
)
def test_the_first_prices_are_learned_from_eps_n_queries_rounded_up(horizon, eps, queries):
    assert PlanningSettings(horizon=horizon, eps=eps).warmup_queries == queries


@pytest.mark.parametrize(
    ("warmup", "resolve", "at"),
    [
        ("buffer", "once", [20]),
        ("random", "once", [20]),
        ("history", "once", []),
        ("buffer", "geometric", [20, 40, 80, 160, 320]),
        ("history", "geometric", [20, 40, 80, 160, 320]),
        ("buffer", "every", [20, 120, 220, 320, 340, 360, 380]),
        ("random", "every", [20, 120, 220, 320, 340, 360, 380]),
        ("history", "every", [100, 200, 300]),
    ],
)
def test_solves_are_due(warmup, resolve, at):
    made = planner(
        warmup=warmup, resolve=resolve, resolve_every=100, resolve_late=20, history=HISTORY, solver="newton"
    )
    if warmup == "history":
        assert made.plan.learned
        assert made.plan.version == 1
    else:
        assert not made.plan.learned
        assert made.plan.until == 20
    plans = learn(made, random_estimates(400))
    assert solved_at(plans) == at
    first = 1 if warmup == "history" else 0
    assert [plan.version for plan in plans] == [first + 1 + number for number in range(len(at))]
    # a lane in lockstep is told where the next one is, and after the last one none
    assert [plan.until for plan in plans] == [*at[1:], None][: len(at)]
    assert made.plan.until is None


def test_the_first_solve_is_the_papers():
    made = planner(horizon=100, eps=0.2)
    sample = random_estimates(20)
    plan = learn(made, sample)[0]
    exact = solve_lp(sample.quality, sample.cost, BUDGETS * 20 / 100)
    assert plan.prices == pytest.approx(exact.prices)
    assert plan.learned


def test_later_solves_divide_what_is_left_of_budget_and_horizon():
    made = planner(horizon=100, eps=0.2, resolve="geometric")
    estimates = random_estimates(40)
    learn(made, estimates.rows(slice(0, 20)))
    spent = to_pico(np.array([0.005, 0.03, 0.02]))
    made.see(0, arrived(40, charged=spent))
    plan = made.observe(estimates.rows(slice(20, 40)))[0]
    left = np.maximum(BUDGETS - np.array([0.005, 0.03, 0.02]), 0)
    exact = solve_lp(estimates.quality, estimates.cost, left * 40 / 60)
    assert plan.prices == pytest.approx(exact.prices)


def test_prices_of_the_history_are_for_its_share_of_the_budget():
    made = planner(warmup="history", history=HISTORY)
    exact = solve_lp(HISTORY.quality, HISTORY.cost, BUDGETS * len(HISTORY) / 400)
    assert made.plan.prices == pytest.approx(exact.prices)
    assert made.plan.learned


def test_every_solves_on_the_window_topped_up_with_history():
    made = planner(
        horizon=1000, eps=0.03, resolve="every", resolve_every=30, resolve_window=50, history=HISTORY
    )
    estimates = random_estimates(90)
    plans = learn(made, estimates)
    assert solved_at(plans) == [30, 60, 90]
    assert [plan.solved_from["rows"] for plan in plans] == [50, 50, 50]
    budgets = BUDGETS * 50 / (1000 - 90)
    exact = solve_lp(estimates.quality[-50:], estimates.cost[-50:], budgets)
    assert plans[-1].prices == pytest.approx(exact.prices)


def test_a_time_limit_makes_fewer_samples_do():
    made = planner()
    assert made.solve(early=True) is None, "nothing to solve on"
    made.observe(random_estimates(7))
    assert made.solve() is None
    plan = made.solve(early=True)
    assert plan is not None
    assert (plan.learned, plan.solved_from["observed"], plan.until) == (True, 7, None)
    assert made.observe(random_estimates(30)) == []


def test_the_time_limit_does_not_stop_later_solves():
    made = planner(resolve="geometric")
    made.observe(random_estimates(7))
    assert made.solve(early=True).until == 40
    made.see(0, arrived(300))
    assert solved_at(made.observe(random_estimates(200))) == [40, 80, 160]


def test_samples_of_queries_that_still_wait_are_held_until_those_are_decided():
    """A lane in warm-up samples far ahead; a later solve must know what was spent until then."""
    made = planner(resolve="geometric")
    estimates = random_estimates(400)
    assert solved_at(made.observe(estimates)) == [20]
    assert made.catch_up() == []
    plans = []
    for count in (39, 40, 200):
        made.see(0, arrived(count))
        plans.append(solved_at(made.catch_up()))
    assert plans == [[], [40], [80, 160]]
    made.see(0, arrived(400))
    assert solved_at(made.catch_up()) == [320]


def test_settings_that_cannot_be():
    for options in ({"horizon": 0}, {"horizon": 9, "eps": 0.0}, {"horizon": 9, "resolve_every": 0}):
        with pytest.raises(ValueError, match=next(reversed(options))):
            PlanningSettings(**options)
    with pytest.raises(ValueError, match="history"):
        Planner(PlanningSettings(horizon=9, warmup="history"), MODELS, BUDGETS)


# --- batches and take-overs ---------------------------------------------------------------------------------

FORMS = [
    {"resolve": "once"},
    {"resolve": "geometric", "solver": "newton"},
    {"warmup": "random", "resolve": "geometric", "solver": "newton"},
    {
        "warmup": "history", "resolve": "every", "resolve_every": 60, "resolve_late": 15,
        "resolve_window": 90, "solver": "newton", "history": HISTORY,
    },
    {
        "warmup": "buffer", "resolve": "every", "resolve_every": 60, "resolve_window": 40,
        "solver": "newton", "history": HISTORY, "mix": "remaining",
    },
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@given(cuts=st.lists(st.integers(1, 399), max_size=12))
@settings(max_examples=15, deadline=None)
def test_batches_split_anywhere_lead_to_the_same_plans(form, cuts):
    estimates = random_estimates(400)
    whole = learn(planner(**form), estimates)
    assert whole or form["resolve"] == "once"
    assert same_prices(learn(planner(**form), estimates, sorted(cuts)), whole)


def test_more_samples_than_are_kept_still_do_not_depend_on_batches():
    estimates = random_estimates(KEEP_ROWS * 2)
    form = {"horizon": 10**6, "eps": 0.01, "resolve": "geometric", "solver": "newton"}
    one, other = planner(**form), planner(**form)
    whole = learn(one, estimates)
    assert same_prices(learn(other, estimates, [3, 9_000, 20_001, 30_000]), whole)
    assert [plan.solved_from["rows"] for plan in whole] == [10_000, 20_000, KEEP_ROWS]


@pytest.mark.parametrize("form", FORMS)
def test_another_planner_goes_on_with_the_same_prices(form):
    """Kill the planner after each of its plans: the next one reads the period's samples again."""
    estimates = random_estimates(400)
    whole = learn(planner(**form), estimates)
    for number, last in enumerate(whole):
        successor = planner(**form)
        successor.resume(last)
        assert successor.plan is last, "the plan in force is not solved again"
        assert same_prices(learn(successor, estimates), whole[number + 1 :])


def test_a_successor_knows_what_a_query_costs():
    made = planner(horizon=100, eps=0.2)
    plan = learn(made, random_estimates(20))[0]
    successor = planner(horizon=100, eps=0.2)
    successor.resume(plan)
    assert successor.past.mean_cost == pytest.approx(made.past.mean_cost)
    assert (successor.past.mean_cost > 1e7).all()


# --- what lanes report --------------------------------------------------------------------------------------


def test_accounts_of_other_periods_and_older_ones_are_ignored():
    made = planner(lanes=2, overflow=True)
    made.see(0, arrived(5))
    made.see(1, arrived(7))
    made.see(0, arrived(3))
    made.see(1, arrived(70, period=2))
    assert made.arrived == 12
    assert made.seen[0].arrived == 5


def test_traffic_does_not_depend_on_which_lane_is_looked_at_first():
    made = planner(lanes=3, overflow=True, horizon=10**6)
    for look in range(1, 4):
        for lane in range(3):
            made.see(lane, arrived(5000 * look))
        made.hand_out()
    recent = made.traffic.recent
    assert recent == pytest.approx(np.full(3, recent[0]))
    one, two, three, _ = made.plan.target.sum(1).tolist()
    assert max(one, two, three) - min(one, two, three) <= 9


def test_what_the_overflow_lane_refused_is_done_with():
    made = planner(lanes=2, overflow=True)
    made.see(0, arrived(5, deferred=3))
    made.see(2, arrived(2, dead=1))
    assert (made.decided, made.waiting) == (5, 0)


def test_what_waits_for_the_overflow_lane_stands_for_all_that_came_with_it():
    """Lanes keep what is worth no LLM; the rest of the budgets is not for so few as pass it on."""
    made = planner(lanes=1, overflow=True, horizon=400, warmup="history", resolve="every", history=HISTORY)
    made.see(0, arrived(400, unserved=300, deferred=100))
    assert (made.to_come, made.decided) == (0, 300)
    assert made.waiting == pytest.approx(400)
    made.observe(random_estimates(250))
    sample = random_estimates(250)
    exact = solve_lp(
        np.concatenate([sample.quality, made.past.rows.quality]),
        np.concatenate([sample.cost, made.past.rows.cost]),
        BUDGETS * 310 / 400,
    )
    assert made.plan.prices == pytest.approx(exact.prices)


def test_all_has_come_so_all_rights_go_to_the_pool():
    """Not back to the lanes: a burst that is over in one look left the pool with a fifth."""
    made = planner(lanes=4, overflow=True, horizon=1000)
    for look in range(1, 11):
        for lane in range(4):
            made.see(lane, replace(made.seen[lane], arrived=5 * look))
        made.hand_out()
    for lane in range(4):
        made.see(lane, replace(made.seen[lane], arrived=250, deferred=250))
    made.hand_out()
    assert (made.to_come, made.decided) == (0, 0)
    assert not made.plan.target[:4].any()


def test_rights_that_would_move_by_little_stay_where_they_are():
    made = planner(lanes=2, overflow=True, horizon=10**6)
    for look in range(1, 9):
        for lane in range(2):
            made.see(lane, replace(made.seen[lane], arrived=10**5 + 100 * look))
        made.see(2, made.seen[2].released_to(made.plan.granted[2], made.plan.target[2]))
        made.hand_out()
    plan = made.plan
    assert plan.target[:2].any()
    made.see(0, replace(made.seen[0], charged=plan.target[0] // 50, arrived=10**5 + 900))
    assert made.hand_out() is plan
    made.see(0, replace(made.seen[0], charged=plan.target[0] // 2, arrived=10**5 + 1000))
    assert made.hand_out() is not plan


def test_rights_begin_and_end_in_the_pool():
    made = planner(lanes=4, overflow=True, horizon=1000)
    assert not made.plan.target[:4].any()
    assert (made.plan.granted[4] == to_pico(BUDGETS)).all()
    held = []
    for look in range(1, 51):
        for lane in range(4):
            account = made.seen[lane].released_to(made.plan.granted[lane], made.plan.target[lane])
            made.see(lane, replace(account, arrived=5 * look))
        made.see(4, made.seen[4].released_to(made.plan.granted[4], made.plan.target[4]))
        made.hand_out()
        held.append(int(made.plan.target[:4].sum()))
        come, left = 20 * look, 1000 - 20 * look
        most = to_pico(BUDGETS).sum() * come / max(left, 1)
        assert held[-1] <= most, "no more than the news of traffic stands for"
    assert not any(held[: LOOKS_TO_KNOW - 1]), "a burst begins as any traffic does"
    assert held[LOOKS_TO_KNOW - 1] > 0, "lanes get rights as soon as their pace is known"
    assert held[-5] == 0, "and give them back while there is time to move them"


def test_a_successor_leaves_rights_where_they_are():
    made = planner(lanes=4, overflow=True, horizon=1000)
    for look in range(1, 11):
        for lane in range(4):
            account = made.seen[lane].released_to(made.plan.granted[lane], made.plan.target[lane])
            made.see(lane, replace(account, arrived=10 * look))
        made.see(4, made.seen[4].released_to(made.plan.granted[4], made.plan.target[4]))
        made.hand_out()
    accounts = list(made.seen)
    successor = planner(lanes=4, overflow=True, horizon=1000)
    successor.resume(made.plan)
    for lane, account in enumerate(accounts):
        successor.see(lane, account)
    before = successor.plan
    assert np.abs(successor.hand_out().target - before.target).max() <= 0.01 * to_pico(BUDGETS).max()


def test_nothing_new_is_no_new_plan():
    made = planner(lanes=2, overflow=True)
    plan = made.hand_out()
    assert made.hand_out() is plan
    assert made.measure({}) is plan


# --- periods ------------------------------------------------------------------------------------------------


def test_a_new_period_has_fresh_grants_and_the_last_prices():
    made = planner(horizon=100, eps=0.2)
    plan = learn(made, random_estimates(50))[0]
    made.see(0, arrived(100, charged=to_pico(BUDGETS)))
    new = made.start_period()
    assert (new.period, new.version, new.learned) == (2, plan.version, True)
    assert new.prices == pytest.approx(plan.prices)
    assert (new.granted[0] == to_pico(BUDGETS)).all()
    assert (new.until, made.arrived, made.observed) == (20, 0, 0)
    made.see(0, arrived(120))
    assert made.arrived == 0, "of the period before"
    # the new period's samples alone
    sample = random_estimates(20, seed=5)
    made.see(0, arrived(20, period=2))
    assert solved_at(made.observe(sample)) == [20]
    exact = solve_lp(sample.quality, sample.cost, BUDGETS * 20 / 80)
    assert made.plan.prices == pytest.approx(exact.prices)


def test_a_query_is_decided_where_it_is_paid():
    made = planner(lanes=2, overflow=True)
    made.see(0, arrived(5, deferred=2))
    made.see(1, arrived(3, deferred=3))
    assert (made.arrived, made.decided) == (8, 3)
    made.see(2, arrived(4))
    assert (made.arrived, made.decided) == (8, 7)


def test_revisions_only_grow():
    made = planner(lanes=2, overflow=True, resolve="geometric")
    revisions = [made.plan.revision]
    for round_ in range(1, 30):
        made.see(round_ % 2, replace(made.seen[round_ % 2], arrived=round_))
        made.observe(random_estimates(5, seed=round_))
        revisions.append(made.hand_out().revision)
    revisions.append(made.start_period().revision)
    assert revisions == sorted(revisions)
    assert len(set(revisions)) > 5


def test_prices_that_queries_taught_stay_when_a_period_begins_and_those_of_the_history_are_made_anew():
    form = {"warmup": "history", "history": HISTORY, "resolve": "every", "resolve_every": 30}
    made = planner(horizon=100, **form)
    first = made.plan
    made.apply_catalogue(1, MODELS, 2 * BUDGETS)
    again = made.start_period()
    assert again.version == first.version + 1, "nothing was learned, and budgets are others"
    assert again.prices != pytest.approx(first.prices)
    made.see(0, arrived(30, period=2))
    (learned,) = made.observe(random_estimates(30))
    for period in (3, 4):
        new = made.start_period()
        assert (new.period, new.version, new.learned) == (period, learned.version, True)
        assert new.prices == pytest.approx(learned.prices)
    successor = planner(horizon=100, **form)
    successor.resume(new)
    assert successor.start_period().prices == pytest.approx(learned.prices)


def test_a_period_that_ends_by_time_is_planned_for_what_its_rate_will_bring():
    now = [0.0]
    made = Planner(
        PlanningSettings(horizon=100, eps=0.2, period_seconds=60.0, resolve="geometric"), MODELS, BUDGETS,
        clock=lambda: now[0],
    )  # fmt: skip
    made.start_period()
    assert made.to_come == 100
    now[0] = 30.0
    made.see(0, arrived(150))
    assert made.to_come == pytest.approx(100), "half is over: 150 so far and 50 expected count alike"
    sample = random_estimates(20)
    (plan,) = made.observe(sample)
    exact = solve_lp(sample.quality, sample.cost, BUDGETS * 20 / 100)
    assert plan.prices == pytest.approx(exact.prices)
    # more than was expected: prices are learned all the same
    assert solved_at(made.observe(random_estimates(140))) == [40, 80]
    made.see(0, arrived(400))
    assert solved_at(made.catch_up()) == [160]
    now[0] = 61.0
    assert made.to_come == 0


def test_rights_of_a_period_that_ends_by_time_go_to_the_pool_when_time_is_up():
    now = [0.0]
    made = Planner(
        PlanningSettings(horizon=100, period_seconds=100.0), MODELS, BUDGETS, lanes=2, overflow=True,
        clock=lambda: now[0],
    )  # fmt: skip
    made.start_period()
    held = []
    for second in range(100):
        now[0] = float(second)
        for lane in range(2):
            account = made.seen[lane].released_to(made.plan.granted[lane], made.plan.target[lane])
            made.see(lane, replace(account, arrived=10 * second))
        made.see(2, made.seen[2].released_to(made.plan.granted[2], made.plan.target[2]))
        made.hand_out()
        held.append(int(made.plan.target[:2].sum()))
    assert held[50] > 0, "twenty times what was expected has come, and as much is still to come"
    assert held[-2] == 0


# --- catalogues ---------------------------------------------------------------------------------------------


def test_an_llm_is_added_at_the_end_and_one_is_closed():
    made = planner(horizon=100, eps=0.2, history=HISTORY, resolve="every")
    learn(made, random_estimates(20))
    plan = made.apply_catalogue(3, ("a", "d", "c"), np.array([0.01, 0.04, 0.01]))
    assert plan.models == ("a", "b", "c", "d")
    assert plan.active.tolist() == [True, False, True, True]
    assert plan.budgets.tolist() == to_pico([0.01, 0.05, 0.01, 0.04]).tolist()
    # the lane gives back what it holds of the closed one, and of the lowered one
    account = made.seen[0].released_to(plan.granted[0], plan.target[0])
    assert account.available(plan.granted[0]).tolist() == to_pico([0.01, 0.0, 0.01, 0.04]).tolist()
    assert plan.prices[3] > 0
    # prices are learned anew, with the history's rows saying nothing about the new one
    made.see(0, arrived(40).widened(4))
    assert made.observe(random_estimates(20, seed=3, models=4))[0].prices.shape == (4,)


def test_a_removed_llm_is_on_the_bill_of_its_last_period_only():
    made = planner(horizon=100)
    plan = made.apply_catalogue(1, ("a", "c"), np.array([0.02, 0.01]))
    assert plan.budgets[1] == to_pico(BUDGETS)[1]
    assert made.start_period().budgets.tolist() == to_pico(np.array([0.02, 0.0, 0.01])).tolist()
    back = made.apply_catalogue(2, MODELS, BUDGETS)
    assert back.budgets.tolist() == to_pico(BUDGETS).tolist()
    assert back.active.all()


@pytest.mark.parametrize("resolve", ["once", "geometric"])
def test_a_catalogue_that_comes_late_keeps_no_lane_in_lockstep_waiting(resolve):
    """The planner has seen 20 queries, the lane has decided 35: samples of those count for nothing."""
    made = planner(horizon=400, eps=0.05, resolve=resolve)
    learn(made, random_estimates(20))
    decided = 35
    plan = made.apply_catalogue(1, ("a", "b", "c", "d"), np.append(BUDGETS, 0.1))
    assert plan.until - decided > 20, "the lane goes on"
    plans = []
    for seed in range(60):
        if (room := made.plan.until - decided if made.plan.until is not None else 10) <= 0:
            break
        count = min(10, room)
        decided += count
        made.see(0, arrived(decided).widened(4))
        plans += made.observe(random_estimates(count, seed=seed, models=4))
        if seed == 0:
            assert made.plan.until == 35 + 20, "counted from where the lane took up the new plan"
    assert decided >= 400, "it never stopped for good"
    assert solved_at(plans) == ([20] if resolve == "once" else [20, 40, 80, 160, 320])


def test_a_successor_counts_from_the_first_sample_as_well():
    made = planner(horizon=400, eps=0.05, resolve="geometric")
    learn(made, random_estimates(20))
    plan = made.apply_catalogue(1, ("a", "b", "c", "d"), np.append(BUDGETS, 0.1))
    successor = planner(horizon=400, eps=0.05, resolve="geometric")
    successor.resume(plan)
    successor.see(0, arrived(45).widened(4))
    successor.observe(random_estimates(10, models=4))
    assert successor.plan.until == 35 + 20


def test_a_successor_built_for_another_catalogue_takes_the_plans():
    made = planner(horizon=100, eps=0.2, history=HISTORY, resolve="every", lanes=2, overflow=True)
    plan = made.apply_catalogue(3, ("c", "d", "a"), np.array([0.01, 0.04, 0.01]))
    successor = Planner(
        made.settings, ("c", "d", "a"), np.ones(3), lanes=2, overflow=True, history=random_estimates(60)
    )
    successor.resume(plan)
    successor.see(0, replace(Account.fresh(1, 4), arrived=3))
    assert successor.hand_out().granted.shape == (3, 4)
    assert successor.past.rows is not None
    assert successor.past.rows.quality[:, 0].tolist() != successor.past.rows.quality[:, 2].tolist()
    assert not successor.past.rows.quality[:, 1].any(), "b is not in its catalogue"
    assert len(successor.observe(random_estimates(20, models=4))) == 1


def test_an_llm_that_can_be_compared_now_gets_a_price():
    made = planner(horizon=100, eps=0.2)
    learn(made, random_estimates(20))
    made.apply_catalogue(1, (*MODELS, "d"), np.append(BUDGETS, 0.1))
    learn(made, random_estimates(20, models=4))
    version = made.plan.version
    made.measure({"d": [29, 0.5, 1e-3]})
    assert made.plan.until is None
    made.measure({"d": [30, 0.5, 1e-3]})
    assert made.plan.until is not None
    made.see(0, arrived(60).widened(4))
    assert made.observe(random_estimates(20, models=4))[0].version == version + 1
