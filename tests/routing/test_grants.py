"""Rights in escrow: never more than the budget whatever is stale, and nothing stranded."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from routing.account import Account
from routing.decision import IntArray
from routing.grants import LUMP, RESERVE, Grants, grant

DOLLAR = 10**12


class Cluster:
    """Lanes that do as their plan says, and a planner that sees them late."""

    def __init__(self, budgets: list[int], lanes: int, overflow: bool, cost: float = 1.0) -> None:
        self.budgets = np.array(budgets, dtype=np.int64)
        self.overflow, self.partitions = overflow, lanes
        rows, models = lanes + overflow, len(budgets)
        none = np.zeros((rows, models), dtype=np.int64)
        self.plan = Grants(none, none, none[0])
        self.accounts = [Account.fresh(1, models) for _ in range(rows)]
        self.seen = list(self.accounts)
        self.traffic = np.ones(lanes)
        self.cost = np.full(models, cost)

    def hand_out(self) -> None:
        self.plan = grant(
            self.budgets, self.plan.granted,
            np.stack([account.released for account in self.seen]),
            np.stack([account.charged for account in self.seen]),
            self.traffic, self.cost, overflow=self.overflow,
        )  # fmt: skip

    def see(self) -> None:
        self.seen = list(self.accounts)

    def release(self, lane: int) -> None:
        self.accounts[lane] = self.accounts[lane].released_to(self.plan.granted[lane], self.plan.target[lane])

    def available(self, lane: int) -> IntArray:
        return self.accounts[lane].available(self.plan.granted[lane])

    def charge(self, lane: int, model: int, amount: int) -> bool:
        if amount > self.available(lane)[model]:
            return False
        costs = np.zeros((1, len(self.budgets)), dtype=np.int64)
        costs[0, model] = amount
        self.accounts[lane] = self.accounts[lane].routed(np.array([model]), costs)
        return True

    def round(self) -> None:
        """Everybody does everything once, and the planner sees it."""
        for lane in range(len(self.accounts)):
            self.release(lane)
        self.see()
        self.hand_out()

    def settle_down(self, rounds: int = 50) -> int:
        """Rounds until nothing changes."""
        for number in range(rounds):
            before = self.plan
            self.round()
            if np.array_equal(before.granted, self.plan.granted) and np.array_equal(
                before.target, self.plan.target
            ):
                return number
        raise AssertionError(f"rights still move after {rounds} rounds in which nothing was spent")

    @property
    def charged(self) -> IntArray:
        total: IntArray = np.sum([account.charged for account in self.accounts], axis=0)
        return total

    @property
    def rights(self) -> IntArray:
        """Granted and not given back: what has been or can still be spent."""
        total: IntArray = self.plan.granted.sum(0) - np.sum([a.released for a in self.accounts], axis=0)
        return total


class Escrow(RuleBasedStateMachine):
    """Looks, plans, releases, charges, settlements and changed budgets in any order, each late."""

    @initialize(
        budgets=st.lists(st.integers(0, 1000), min_size=1, max_size=3),
        lanes=st.integers(1, 4),
        overflow=st.booleans(),
        cost=st.sampled_from([1.0, 10.0]),
    )
    def begin(self, budgets: list[int], lanes: int, overflow: bool, cost: float) -> None:
        self.cluster = Cluster(budgets, lanes, overflow, cost)
        self.rows, self.models = lanes + overflow, len(budgets)
        self.plans = [self.cluster.plan]
        self.reads = [0] * self.rows
        self.history = [[account] for account in self.cluster.accounts]
        self.looks = [0] * self.rows
        self.dearer = np.zeros(self.models, dtype=np.int64)
        self.bound = self.cluster.budgets.copy()
        self.open: list[tuple[int, int, int]] = []

    def lane(self, number: int) -> int:
        return number % self.rows

    def use(self, lane: int) -> None:
        """Let the lane act by the plan that it has read."""
        self.cluster.plan = self.plans[self.reads[lane]]

    def done(self, lane: int) -> None:
        self.history[lane].append(self.cluster.accounts[lane])

    @rule(number=st.integers(0, 9), share=st.floats(0, 1))
    def planner_looks_at_a_lane(self, number: int, share: float) -> None:
        lane = self.lane(number)
        behind = len(self.history[lane]) - 1 - self.looks[lane]
        self.looks[lane] += math.ceil(share * behind)
        self.cluster.seen[lane] = self.history[lane][self.looks[lane]]

    @rule(traffic=st.lists(st.floats(0, 1e6), min_size=4, max_size=4))
    def planner_hands_out(self, traffic: list[float]) -> None:
        self.cluster.plan = self.plans[-1]
        self.cluster.traffic = np.array(traffic[: self.cluster.partitions])
        self.cluster.hand_out()
        assert (self.cluster.plan.granted >= self.plans[-1].granted).all()
        assert (self.cluster.plan.target >= 0).all()
        self.plans.append(self.cluster.plan)
        self.bound = np.maximum(self.cluster.budgets, self.bound)

    @rule(number=st.integers(0, 9), share=st.floats(0, 1))
    def lane_reads_a_plan(self, number: int, share: float) -> None:
        lane = self.lane(number)
        self.reads[lane] += math.ceil(share * (len(self.plans) - 1 - self.reads[lane]))

    @rule(number=st.integers(0, 9))
    def lane_releases(self, number: int) -> None:
        lane = self.lane(number)
        self.use(lane)
        self.cluster.release(lane)
        self.done(lane)

    @rule(number=st.integers(0, 9), model=st.integers(0, 9), share=st.floats(0, 1))
    def lane_charges(self, number: int, model: int, share: float) -> None:
        lane, model = self.lane(number), model % self.models
        self.use(lane)
        amount = int(share * max(0, int(self.cluster.available(lane)[model])))
        if self.cluster.charge(lane, model, amount):
            self.open.append((lane, model, amount))
        self.done(lane)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99), factor=st.floats(0, 3))
    def outcome_settles(self, which: int, factor: float) -> None:
        lane, model, reserved = self.open.pop(which % len(self.open))
        actual = int(factor * reserved)
        self.dearer[model] += max(0, actual - reserved)
        account = self.cluster.accounts[lane]
        self.cluster.accounts[lane] = account.settle(
            np.array([model]), np.array([reserved]), np.array([actual])
        )
        self.done(lane)

    @rule(budgets=st.lists(st.integers(0, 1000), min_size=3, max_size=3))
    def budgets_change(self, budgets: list[int]) -> None:
        self.cluster.budgets = np.array(budgets[: self.models], dtype=np.int64)

    @invariant()
    def nobody_has_more_than_there_is(self) -> None:
        if not hasattr(self, "plans"):
            return
        self.cluster.plan = self.plans[-1]
        # a budget that was lowered binds as lanes give back: until then the highest so far is the limit
        assert (self.cluster.rights <= self.bound).all()
        assert (self.cluster.charged <= self.bound + self.dearer).all()
        for lane in range(self.rows):
            self.use(lane)
            assert (self.cluster.available(lane) >= -self.dearer).all()


TestEscrow = Escrow.TestCase
TestEscrow.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


shapes = st.tuples(st.integers(1, 5), st.booleans(), st.lists(st.integers(0, 10**15), min_size=1, max_size=3))


@given(shapes, st.lists(st.floats(0, 1e5), min_size=5, max_size=5), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_rights_come_to_rest_when_nothing_is_spent(shape, traffic, seed):
    lanes, overflow, budgets = shape
    cluster = Cluster(budgets, lanes, overflow, cost=float(max(budgets)) / 100 + 1)
    cluster.hand_out()
    random = np.random.default_rng(seed)
    for lane in range(len(cluster.accounts)):
        for model in range(len(budgets)):
            cluster.charge(lane, model, int(random.random() * cluster.available(lane)[model]))
    cluster.traffic = np.array(traffic[:lanes])
    cluster.settle_down()
    # all that is left can be spent by somebody, but for a few picodollars of rounding
    held = sum(cluster.available(lane) for lane in range(len(cluster.accounts)))
    assert (np.abs(held - (cluster.budgets - cluster.charged)) <= 2 * lanes).all()


@given(shapes, st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_a_lowered_budget_binds_once_lanes_have_given_back(shape, seed):
    lanes, overflow, budgets = shape
    cluster = Cluster(budgets, lanes, overflow, cost=1.0)
    cluster.round()
    random = np.random.default_rng(seed)
    for lane in range(len(cluster.accounts)):
        for model in range(len(budgets)):
            cluster.charge(lane, model, int(0.3 * random.random() * cluster.available(lane)[model]))
    cluster.see()
    cluster.budgets = (random.random(len(budgets)) * cluster.budgets).astype(np.int64)
    cluster.hand_out()
    for lane in range(len(cluster.accounts)):
        cluster.release(lane)
    # spent already, or the new budget: nothing else, and at once
    assert (cluster.rights <= np.maximum(cluster.budgets, cluster.charged)).all()
    cluster.budgets = cluster.budgets * 3
    cluster.settle_down()
    most = np.maximum(cluster.budgets, cluster.charged)
    assert (cluster.rights <= most).all()
    assert (cluster.rights >= most - 2 * lanes).all()


@pytest.mark.parametrize("overflow", [True, False])
def test_rights_follow_traffic_to_one_lane_that_spends_nearly_everything(overflow):
    lanes, cost = 8, DOLLAR // 1000
    cluster = Cluster([DOLLAR], lanes, overflow, cost)
    cluster.round()
    assert cluster.available(0)[0] <= DOLLAR // lanes
    cluster.traffic = np.array([2000.0] + [0.0] * (lanes - 1))
    spent = deferred = 0
    for _ in range(40):
        for _ in range(50):
            if cluster.charge(0, 0, cost):
                spent += 1
            elif overflow and cluster.charge(lanes, 0, cost):
                spent, deferred = spent + 1, deferred + 1
        cluster.round()
    assert spent >= (1000 if overflow else 990)
    assert deferred <= 300


@pytest.mark.parametrize("overflow", [True, False])
def test_a_dear_settlement_is_held_against_the_next_grants(overflow):
    cluster = Cluster([1000], 2, overflow)
    cluster.round()
    assert cluster.charge(0, 0, 300)
    account = cluster.accounts[0]
    cluster.accounts[0] = account.settle(np.array([0]), np.array([300]), np.array([900]))
    assert cluster.available(0)[0] < 0
    cluster.settle_down()
    left = [int(cluster.available(lane)[0]) for lane in range(len(cluster.accounts))]
    assert sum(left) == pytest.approx(100, abs=4)
    assert min(left) >= 0, "the lane's debt was paid out of what the others gave back"


def test_what_settles_below_its_reservation_can_be_spent_again():
    cluster = Cluster([1000], 2, True)
    cluster.round()
    assert cluster.charge(0, 0, 400)
    cluster.accounts[0] = cluster.accounts[0].settle(np.array([0]), np.array([400]), np.array([100]))
    cluster.settle_down()
    assert sum(int(cluster.available(lane)[0]) for lane in range(3)) == 900


def test_the_pool_keeps_its_reserve_and_later_the_whole_rest():
    cluster = Cluster([1_000_000], 4, True, cost=100)
    cluster.settle_down()
    assert cluster.available(4)[0] == RESERVE * 1_000_000
    assert cluster.charge(0, 0, 200_000)
    # below LUMP queries a lane everything goes to the pool
    cluster.cost = np.array([800_000 / (4 * LUMP) + 1])
    cluster.settle_down()
    assert [int(cluster.available(lane)[0]) for lane in range(5)] == [0, 0, 0, 0, 800_000]


def test_one_lane_without_pool_holds_all_and_never_gives_back():
    cluster = Cluster([1000, 7], 1, False)
    cluster.hand_out()
    assert cluster.available(0).tolist() == [1000, 7]
    assert cluster.charge(0, 0, 600)
    cluster.round()
    # the planner has not seen it yet, and the outcome is cheap: rights come back to the lane at once
    cluster.accounts[0] = cluster.accounts[0].settle(np.array([0]), np.array([600]), np.array([1]))
    cluster.round()
    assert cluster.available(0).tolist() == [999, 7]
    assert not cluster.accounts[0].released.any()


@given(
    st.integers(1, 64),
    st.booleans(),
    st.integers(2**52, 9 * 10**18),
    st.lists(st.floats(0, 1e9), min_size=64, max_size=64),
)
@settings(max_examples=200, deadline=None)
def test_no_picodollar_too_many_where_floats_are_coarse(lanes, overflow, budget, traffic):
    none = np.zeros((lanes + overflow, 1), dtype=np.int64)
    first = grant(
        np.array([budget]), none, none, none, np.array(traffic[:lanes]), np.array([1e9]), overflow=overflow
    )
    assert 0 <= first.granted.sum() <= budget
    assert (first.granted >= 0).all()
    assert first.granted.sum() >= budget * (1 - 1e-12) - lanes
    uneven = np.array(traffic[:lanes])[::-1]
    released = np.maximum(first.granted - first.target, 0)
    second = grant(
        np.array([budget]), first.granted, released, none, uneven, np.array([1e9]), overflow=overflow
    )
    assert (second.granted >= first.granted).all()
    assert (second.granted - released).sum() <= budget


def test_a_view_that_went_backwards_only_hands_out_less():
    cluster = Cluster([1000], 3, True)
    cluster.round()
    old = list(cluster.accounts)
    cluster.traffic = np.array([1000.0, 0.0, 0.0])
    cluster.round()
    for lane in range(4):
        cluster.release(lane)
    cluster.seen = old
    before = cluster.plan
    cluster.hand_out()
    assert np.array_equal(cluster.plan.granted, before.granted)


@pytest.mark.parametrize("overflow", [True, False])
def test_rights_that_moved_very_often_do_not_wrap_around(overflow):
    most = 2**63 - 1
    granted = np.full((3, 1), most - 5, dtype=np.int64)
    grants = grant(
        np.array([1000]), granted, granted, np.zeros_like(granted), np.ones(3), np.array([1.0]),
        overflow=overflow,
    )  # fmt: skip
    assert (grants.granted >= granted).all()
    assert (grants.granted - granted).sum() <= 1000


@pytest.mark.parametrize("ahead", [0.0, 0.25, 1.0])
def test_lanes_hold_nothing_for_what_waits_for_the_pool_already(ahead):
    none = np.zeros((5, 1), dtype=np.int64)
    grants = grant(
        np.array([DOLLAR]), none, none, none, np.ones(4), np.array([1.0]), overflow=True, ahead=ahead
    )
    assert grants.target[:4].sum() == pytest.approx((1 - RESERVE) * ahead * DOLLAR)
    assert grants.target.sum() == DOLLAR


def test_rights_that_move_by_less_than_the_slack_have_not_moved():
    target, none = np.array([[1000], [0]]), np.array([0])
    granted = np.array([[5000], [7]])
    assert not Grants(granted + np.array([[100], [0]]), target, none).moved(granted, target)
    assert Grants(granted + np.array([[101], [0]]), target, none).moved(granted, target)
    assert not Grants(granted, np.array([[910], [0]]), none).moved(granted, target)
    assert Grants(granted, np.array([[890], [0]]), none).moved(granted, target)
    pool = Grants(granted + np.array([[0], [1]]), target, none)
    assert pool.moved(granted, target), "the pool's are handed out"


def test_what_lanes_lack_is_asked_of_a_pool_to_which_it_is_little():
    granted, target = np.array([[100], [9900]]), np.array([[100], [9900]])
    asks = Grants(granted, np.array([[100], [9850]]), np.array([50]))
    assert asks.moved(granted, target)
    assert not asks.moved(granted, asks.target), "once"
    assert not Grants(granted, asks.target, np.array([5])).moved(granted, target)
    assert not Grants(granted, asks.target, np.array([0])).moved(granted, target), "it spent them itself"
