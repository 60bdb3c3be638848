"""Grants: their sum never exceeds the budget on outdated accounts, and no money is stranded."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from routing.arrays import IntArray
from routing.budgets.grants import MIN_QUERIES_PER_LANE, POOL_SHARE, Grants, grant
from routing.policy.account import Account

DOLLAR = 10**12


class Cluster:
    """Lanes that follow their plan, and a planner that reads their accounts late."""

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

    def update_grants(self) -> None:
        self.plan = grant(
            self.budgets,
            self.plan.granted,
            np.stack([account.released for account in self.seen]),
            np.stack([account.charged for account in self.seen]),
            self.traffic,
            self.cost,
            overflow=self.overflow,
        )

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
        self.accounts[lane] = self.accounts[lane].with_charges(np.array([model]), costs)
        return True

    def round(self) -> None:
        """Run each step of every lane once, and update the planner's accounts."""
        for lane in range(len(self.accounts)):
            self.release(lane)
        self.see()
        self.update_grants()

    def settle_down(self, rounds: int = 50) -> int:
        """Run rounds until nothing changes."""
        for number in range(rounds):
            before = self.plan
            self.round()
            if np.array_equal(before.granted, self.plan.granted) and np.array_equal(
                before.target, self.plan.target
            ):
                return number
        raise AssertionError(f"grants still move after {rounds} rounds in which nothing was spent")

    @property
    def charged(self) -> IntArray:
        total: IntArray = np.sum([account.charged for account in self.accounts], axis=0)
        return total

    @property
    def outstanding(self) -> IntArray:
        """Return grants less releases: the amount that was spent or can be spent."""
        total: IntArray = self.plan.granted.sum(0) - np.sum([a.released for a in self.accounts], axis=0)
        return total


class Escrow(RuleBasedStateMachine):
    """Grant rounds, plans, releases, charges, settlements and budget changes in any order and with delays."""

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
        """Act on the plan that the lane read last."""
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
        self.cluster.update_grants()
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
        # A lowered budget applies once lanes gave back; until then the highest budget is the limit.
        assert (self.cluster.outstanding <= self.bound).all()
        assert (self.cluster.charged <= self.bound + self.dearer).all()
        for lane in range(self.rows):
            self.use(lane)
            assert (self.cluster.available(lane) >= -self.dearer).all()


TestEscrow = Escrow.TestCase
TestEscrow.settings = settings(
    max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)


shapes = st.tuples(st.integers(1, 5), st.booleans(), st.lists(st.integers(0, 10**15), min_size=1, max_size=3))


@given(shapes, st.lists(st.floats(0, 1e5), min_size=5, max_size=5), st.integers(0, 2**32))
@settings(max_examples=80)
def test_grants_settle_when_nothing_is_spent(shape, traffic, seed):
    lanes, overflow, budgets = shape
    cluster = Cluster(budgets, lanes, overflow, cost=float(max(budgets)) / 100 + 1)
    cluster.update_grants()
    random = np.random.default_rng(seed)
    for lane in range(len(cluster.accounts)):
        for model in range(len(budgets)):
            cluster.charge(lane, model, int(random.random() * cluster.available(lane)[model]))
    cluster.traffic = np.array(traffic[:lanes])
    cluster.settle_down()
    # Some lane can spend all of the rest, except for rounding.
    available = sum(cluster.available(lane) for lane in range(len(cluster.accounts)))
    assert (np.abs(available - (cluster.budgets - cluster.charged)) <= 2 * lanes).all()


@given(shapes, st.integers(0, 2**32))
@settings(max_examples=80)
def test_grants_respect_a_lowered_budget_after_releases(shape, seed):
    lanes, overflow, budgets = shape
    cluster = Cluster(budgets, lanes, overflow, cost=1.0)
    cluster.round()
    random = np.random.default_rng(seed)
    for lane in range(len(cluster.accounts)):
        for model in range(len(budgets)):
            cluster.charge(lane, model, int(0.3 * random.random() * cluster.available(lane)[model]))
    cluster.see()
    cluster.budgets = (random.random(len(budgets)) * cluster.budgets).astype(np.int64)
    cluster.update_grants()
    for lane in range(len(cluster.accounts)):
        cluster.release(lane)
    # Immediately only the charges or the new budget remain.
    assert (cluster.outstanding <= np.maximum(cluster.budgets, cluster.charged)).all()
    cluster.budgets = cluster.budgets * 3
    cluster.settle_down()
    maximum = np.maximum(cluster.budgets, cluster.charged)
    assert (cluster.outstanding <= maximum).all()
    assert (cluster.outstanding >= maximum - 2 * lanes).all()


@pytest.mark.parametrize("overflow", [True, False])
def test_grants_follow_traffic_to_one_lane(overflow):
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
def test_grants_after_an_expensive_settlement_are_smaller(overflow):
    cluster = Cluster([1000], 2, overflow)
    cluster.round()
    assert cluster.charge(0, 0, 300)
    account = cluster.accounts[0]
    cluster.accounts[0] = account.settle(np.array([0]), np.array([300]), np.array([900]))
    assert cluster.available(0)[0] < 0
    cluster.settle_down()
    left = [int(cluster.available(lane)[0]) for lane in range(len(cluster.accounts))]
    assert sum(left) == pytest.approx(100, abs=4)
    assert min(left) >= 0, "the lane's debt was paid from the other lanes' releases"


def test_grants_include_money_released_by_settlement():
    cluster = Cluster([1000], 2, True)
    cluster.round()
    assert cluster.charge(0, 0, 400)
    cluster.accounts[0] = cluster.accounts[0].settle(np.array([0]), np.array([400]), np.array([100]))
    cluster.settle_down()
    assert sum(int(cluster.available(lane)[0]) for lane in range(3)) == 900


def test_pool_keeps_its_share_and_later_the_whole_rest():
    cluster = Cluster([1_000_000], 4, True, cost=100)
    cluster.settle_down()
    assert cluster.available(4)[0] == POOL_SHARE * 1_000_000
    assert cluster.charge(0, 0, 200_000)
    # Below the minimum of queries per lane the pool gets everything.
    cluster.cost = np.array([800_000 / (4 * MIN_QUERIES_PER_LANE) + 1])
    cluster.settle_down()
    assert [int(cluster.available(lane)[0]) for lane in range(5)] == [0, 0, 0, 0, 800_000]


def test_grant_single_lane_without_pool_holds_everything():
    cluster = Cluster([1000, 7], 1, False)
    cluster.update_grants()
    assert cluster.available(0).tolist() == [1000, 7]
    assert cluster.charge(0, 0, 600)
    cluster.round()
    # Before the planner reads it, a cheap outcome returns money to the lane.
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
@settings(max_examples=200)
def test_grant_never_exceeds_the_budget_with_coarse_floats(lanes, overflow, budget, traffic):
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


def test_grant_with_outdated_accounts_grants_less():
    cluster = Cluster([1000], 3, True)
    cluster.round()
    old = list(cluster.accounts)
    cluster.traffic = np.array([1000.0, 0.0, 0.0])
    cluster.round()
    for lane in range(4):
        cluster.release(lane)
    cluster.seen = old
    before = cluster.plan
    cluster.update_grants()
    assert np.array_equal(cluster.plan.granted, before.granted)


@pytest.mark.parametrize("overflow", [True, False])
def test_grant_at_the_int64_limit_does_not_overflow(overflow):
    maximum = 2**63 - 1
    granted = np.full((3, 1), maximum - 5, dtype=np.int64)
    grants = grant(
        np.array([1000]),
        granted,
        granted,
        np.zeros_like(granted),
        np.ones(3),
        np.array([1.0]),
        overflow=overflow,
    )
    assert (grants.granted >= granted).all()
    assert (grants.granted - granted).sum() <= 1000


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_targets_exclude_queries_that_wait_for_the_pool(share):
    none = np.zeros((5, 1), dtype=np.int64)
    grants = grant(
        np.array([DOLLAR]),
        none,
        none,
        none,
        np.ones(4),
        np.array([1.0]),
        overflow=True,
        lane_share=share,
    )
    assert grants.target[:4].sum() == pytest.approx((1 - POOL_SHARE) * share * DOLLAR)
    assert grants.target.sum() == DOLLAR


def test_differs_enough_below_the_tolerance_is_false():
    target, none = np.array([[1000], [0]]), np.array([0])
    granted = np.array([[5000], [7]])
    assert not Grants(granted + np.array([[100], [0]]), target, none).differs_enough(granted, target)
    assert Grants(granted + np.array([[101], [0]]), target, none).differs_enough(granted, target)
    assert not Grants(granted, np.array([[910], [0]]), none).differs_enough(granted, target)
    assert Grants(granted, np.array([[890], [0]]), none).differs_enough(granted, target)
    pool = Grants(granted + np.array([[0], [1]]), target, none)
    assert pool.differs_enough(granted, target), "the pool gives back its grants"


def test_differs_enough_for_a_shortfall_small_to_the_pool():
    granted, target = np.array([[100], [9900]]), np.array([[100], [9900]])
    asks = Grants(granted, np.array([[100], [9850]]), np.array([50]))
    assert asks.differs_enough(granted, target)
    assert not asks.differs_enough(granted, asks.target), "once"
    assert not Grants(granted, asks.target, np.array([5])).differs_enough(granted, target)
    assert not Grants(granted, asks.target, np.array([0])).differs_enough(granted, target), (
        "it spent them itself"
    )
