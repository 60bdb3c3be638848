"""The planner's desk: what it publishes, and that its successor goes on from that."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException

from routing.account import Account
from routing.catalogue import Catalogue
from routing.plan import Plan
from routing.planning import Planner, PlanningSettings
from streams import planner as module
from streams.catalogue_versions import CatalogueVersion
from streams.ledger import LedgerRecord, account_to_dict
from streams.messages import encode_samples
from streams.periods import PeriodSummary, decode_period
from streams.plan_messages import PLAN_KEY, decode_plan
from streams.planner import PlannerDesk
from streams.stages import Stages
from tests.streams.kept_in_memory import Topics, record_of, settings_of

MODELS = ("a", "b")
BUDGETS = np.array([0.01, 0.02])


class View:
    """The ledgers as the planner's worker has read them."""

    def __init__(self) -> None:
        self.ready = True
        self.kept: dict[int, LedgerRecord] = {}

    def records(self) -> dict[int, LedgerRecord]:
        return dict(self.kept)

    def write(self, lane: int, **account) -> None:
        made = replace(Account.fresh(account.pop("period", 1), 2), **account)
        self.kept[lane] = replace(LedgerRecord.fresh(lane), models=MODELS, account=made)

    def enter(self, period: int, *lanes: int) -> None:
        """Lanes begin a period and keep the account of the one before."""
        for lane in lanes:
            self.kept[lane] = self.kept[lane].entering(Account.fresh(period, 2))

    def change(self, lane: int, period: int, **amounts) -> None:
        """A lane's account of a period, whichever it is in."""
        record = self.kept[lane]
        account = record.account_of(period)
        assert account is not None
        self.kept[lane] = record.with_account(replace(account, **amounts))


class Cluster:
    """What planners' workers share."""

    def __init__(self, patch: pytest.MonkeyPatch, **options) -> None:
        self.topics, self.view = Topics(), View()
        self.topics.install(patch)
        self.settings = settings_of(**({"eps": 0.1, "resolve": "geometric"} | options))
        self.names = self.settings.topics
        models = [{"name": name, "budget_usd": 0.01} for name in MODELS]
        first = CatalogueVersion(0, Catalogue.from_dict({"models": models}))
        self.catalogue = SimpleNamespace(latest=first, models={})
        self.desks: list[PlannerDesk] = []

    def desk(self) -> PlannerDesk:
        s = self.settings
        planning = PlanningSettings(horizon=s.horizon, eps=s.eps, warmup=s.warmup, resolve=s.resolve)
        desk = PlannerDesk(
            s, lambda: Planner(planning, MODELS, BUDGETS, lanes=2, overflow=True), self.view,  # type: ignore[arg-type]
            Stages(), self.catalogue,  # type: ignore[arg-type]
            SimpleNamespace(estimator=SimpleNamespace(models=MODELS)),  # type: ignore[arg-type]
        )  # fmt: skip
        desk.open()
        self.desks.append(desk)
        return desk

    @staticmethod
    def look(desk: PlannerDesk) -> None:
        """Let it look at the ledgers, as if time had passed."""
        desk._until_next, desk._summed = 0.0, 0.0
        desk.step([])

    @property
    def plans(self) -> list[Plan]:
        return [decode_plan(m.value()) for m in self.topics.of(self.names.plans) if m.key() == PLAN_KEY]

    @property
    def plan(self) -> Plan:
        return self.plans[-1]

    @property
    def bills(self) -> dict[int, PeriodSummary]:
        told = [decode_period(m.value()) for m in self.topics.of(self.names.periods)]
        return {summary.period: summary for summary in told}

    def sample(
        self, n: int, lane: int = 0, *, models: Sequence[str] = MODELS, period: int = 1, arrived: int = 0
    ):
        """A lane sends samples of n queries."""
        random = np.random.default_rng(len(self.topics.of(self.names.samples)))
        account = account_to_dict(replace(Account.fresh(period, len(models)), arrived=arrived))
        header = {"period": period, "lane": lane, "account": account, "next": 0, "models": models}
        shape = (n, len(models))
        value = encode_samples(header, random.random(shape), random.uniform(1e-5, 1e-3, shape), "<f8")
        self.topics.add(self.names.samples, value)

    def give(self, desk: PlannerDesk, most: int = 10**6) -> None:
        """Deliver samples from the desk's position on, as its lane does."""
        waiting = self.topics.of(self.names.samples)[desk.position :][:most]
        desk.step([record_of(message) for message in waiting])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    # looks are what a test asks for
    monkeypatch.setattr(module, "LOOK_SECONDS", 1e9)
    monkeypatch.setattr(module, "SHORTEST_LOOK_SECONDS", 1e9)
    return Cluster(monkeypatch)


def test_the_first_owner_begins_a_period(cluster):
    desk = cluster.desk()
    assert len(cluster.plans) == 1
    assert (cluster.plan.period, cluster.plan.version, cluster.plan.learned) == (1, 0, False)
    assert cluster.plan.granted.sum(0).tolist() == [10**10, 2 * 10**10]
    assert (desk.position, desk.version) == (0, 0)


def test_prices_are_published_when_enough_was_sampled(cluster):
    desk = cluster.desk()
    cluster.sample(9)
    cluster.give(desk)
    assert not cluster.plan.learned
    cluster.sample(5)
    cluster.give(desk)
    assert cluster.plan.learned
    assert cluster.plan.version == desk.version == 1
    assert cluster.plan.solved_from["observed"] == 10
    assert cluster.plan.solved_from["samples_from"] == 0
    assert desk.position == 2


@pytest.mark.parametrize("after", range(1, 8))
def test_a_successor_goes_on_whenever_the_owner_dies(cluster, after):
    """The same plans as without a death: none is solved again, no sample lost or counted twice."""
    undisturbed = cluster.desk()
    for number in range(1, 9):
        cluster.sample(6, arrived=6 * number)
        cluster.view.write(0, arrived=6 * number)
    for _ in range(8):
        cluster.give(undisturbed, 1)
    whole = {plan.version: plan for plan in cluster.plans if plan.learned}
    assert sorted(whole) == [1, 2, 3]

    cluster.topics.kept[cluster.names.plans, 0].clear()
    first = cluster.desk()
    for _ in range(after):
        cluster.give(first, 1)
    in_force = cluster.plan
    successor = cluster.desk()
    assert cluster.plan.revision == in_force.revision, "what is in force stays"
    cluster.give(successor)
    again = [plan for plan in cluster.plans if plan.learned]
    assert [plan.version for plan in again] == [1, 2, 3]
    for plan in again:
        assert np.array_equal(plan.prices, whole[plan.version].prices)
        assert plan.solved_from["observed"] == whole[plan.version].solved_from["observed"]


def test_a_fenced_planner_publishes_nothing(cluster):
    old, new = cluster.desk(), cluster.desk()
    cluster.sample(10)
    with pytest.raises(KafkaException):
        cluster.give(old)
    assert not cluster.plan.learned
    cluster.give(new)
    assert cluster.plan.version == 1


def test_a_plan_that_was_not_committed_is_made_again_by_who_opens_next(cluster):
    desk = cluster.desk()
    cluster.sample(10)

    def broken() -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "gone"))

    cluster.topics.fail = broken
    with pytest.raises(KafkaException):
        cluster.give(desk)
    cluster.topics.fail = lambda: None
    desk.close()
    desk.open()
    cluster.give(desk)
    assert [plan.version for plan in cluster.plans] == [0, 1]


def test_rights_are_handed_out_by_what_the_ledgers_say(cluster):
    desk = cluster.desk()
    for look in (1, 2, 3, 4):
        for lane in (0, 1):
            cluster.view.write(lane, arrived=look)
        cluster.view.write(
            2,
            released=np.maximum(
                desk._planner.seen[2].available(cluster.plan.granted[2]) - cluster.plan.target[2], 0
            ),
        )
        cluster.look(desk)
    assert cluster.plan.target[:2].sum() > 0
    assert cluster.plan.granted[:2].sum() > 0
    revision = cluster.plan.revision
    cluster.look(desk)
    cluster.look(desk)
    assert cluster.plan.revision <= revision + 1, "what does not change is not published again"


def test_nothing_is_handed_out_before_the_ledgers_were_read(cluster):
    desk = cluster.desk()
    cluster.view.ready = False
    cluster.view.write(0, arrived=200)
    cluster.look(desk)
    assert len(cluster.plans) == 1
    cluster.view.ready = True
    cluster.look(desk)
    assert cluster.plan.period == 2


def test_ledgers_are_looked_at_while_samples_come_without_a_pause(cluster):
    desk = cluster.desk()
    cluster.view.write(0, arrived=200)
    cluster.sample(1)
    cluster.give(desk)
    assert cluster.plan.period == 1
    desk._until_next = 0.0
    cluster.sample(1)
    cluster.give(desk)
    assert cluster.plan.period == 2


def test_a_burst_is_looked_at_before_the_next_look_is_due(cluster):
    desk = cluster.desk()
    cluster.look(desk)
    assert desk._until_next == 1e9
    cluster.view.write(0, arrived=1)
    desk.step([])
    assert desk._planner.arrived == 1
    assert desk._planner.traffic.uncounted == 1, "no rights are handed out for so little"
    cluster.view.write(0, arrived=5)
    desk.step([])
    assert desk._planner.traffic.uncounted == 0


def test_looks_come_closer_where_little_is_left(cluster, monkeypatch):
    # a quarter adds up exactly, however long the machine has been up
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.25)
    monkeypatch.setattr(module, "SHORTEST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "FASTEST", 4)
    now = [float(int(module.time.monotonic()))]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    desk = cluster.desk()
    assert desk.restless
    waits = []
    for arrived in range(1, 100):
        now[0] += 0.25
        assert desk.restless
        cluster.view.write(0, arrived=arrived)
        desk.step([])
        waits.append(desk._until_next)
        assert desk.restless == (arrived > 50), "so little is left that a burst could bring all of it"
    assert waits[0] == 0.01, "nothing is known yet"
    assert waits[10] == 0.25
    assert waits[80] == pytest.approx(0.25 * 19 / 50)
    assert waits[-1] == 0.01


def test_no_more_samples_are_read_than_are_held_for_later_solves(cluster, monkeypatch):
    """A lane in warm-up samples all that waits in it; the log keeps what the planner does not need yet."""
    monkeypatch.setattr(module, "HELD_MAX", 25)
    cluster.settings = cluster.settings.model_copy(update={"batch_max": 10})
    desk = cluster.desk()
    for _ in range(30):
        cluster.sample(10)
    assert desk.limit == 3
    while desk.limit and desk.position < 30:
        cluster.give(desk, desk.limit)
    assert desk._planner.plan.version == 1
    assert desk.position < 10
    assert 25 <= desk._planner.held < 25 + 30
    # what was decided in the meantime makes later solves due, which take what is held
    for arrived in (20, 40, 80, 99):
        cluster.view.write(0, arrived=arrived)
        cluster.look(desk)
        while desk.limit and desk.position < 30:
            cluster.give(desk, desk.limit)
    assert cluster.plan.version == 4
    assert desk.position == 30


def test_periods_are_closed_and_summed_up(cluster):
    desk = cluster.desk()
    cluster.view.write(0, arrived=60, served=np.array([40, 10]), charged=np.array([5, 6]), unserved=10)
    cluster.view.write(1, arrived=50, served=np.array([0, 50]), charged=np.array([0, 9]))
    cluster.sample(10)
    cluster.give(desk)
    cluster.look(desk)
    assert (cluster.plan.period, cluster.plan.version, cluster.plan.learned) == (2, 1, True)
    assert cluster.plan.solved_from["samples_from"] == 1, "the new period's samples come after this"
    cluster.look(desk)
    newest = {m.key(): decode_period(m.value()) for m in cluster.topics.of(cluster.names.periods)}
    assert newest[b"1"].charged == [5, 15]
    assert newest[b"1"].arrived == 110
    # samples that were under way count for nothing in the new period
    cluster.sample(10, period=1)
    cluster.give(desk)
    assert desk._planner.observed == 0


LANES = (0, 1, 2)
HUNDRED = {"arrived": 100, "served": np.array([60, 40]), "charged": np.array([6, 4])}


def all_in_period_one(cluster: Cluster) -> PlannerDesk:
    desk = cluster.desk()
    for lane in LANES:
        cluster.view.write(lane)
    cluster.look(desk)
    return desk


def test_what_a_lane_two_periods_behind_commits_is_on_the_bill(cluster):
    """Its last transaction of period 1 commits when period 3 has begun."""
    desk = all_in_period_one(cluster)
    cluster.view.write(0, **HUNDRED)
    cluster.look(desk)
    cluster.view.enter(2, 0, 2)
    cluster.view.change(0, 2, **HUNDRED)
    cluster.look(desk)
    cluster.view.enter(3, 0, 2)
    assert cluster.plan.period == 3
    cluster.view.write(1, arrived=7, served=np.array([7, 0]), charged=np.array([7, 0]))
    cluster.look(desk)
    assert (cluster.bills[1].closed, cluster.bills[1].charged) == (False, [13, 4])
    cluster.view.enter(3, 1)
    cluster.look(desk)
    assert [cluster.bills[period].closed for period in (1, 2, 3)] == [True, True, False]
    assert cluster.bills[1].charged == [13, 4]
    assert cluster.bills[1].settling


def test_what_settles_in_the_look_that_ends_a_period_is_on_the_bill_of_the_one_before(cluster):
    desk = all_in_period_one(cluster)
    cluster.view.write(0, **HUNDRED)
    cluster.look(desk)
    cluster.view.enter(2, *LANES)
    cluster.look(desk)
    cluster.view.change(0, 1, settled=np.array([9, 5]), settlements=HUNDRED["served"])
    cluster.view.change(0, 2, **HUNDRED)
    cluster.look(desk)
    assert cluster.plan.period == 3
    assert cluster.bills[1].settled == [9, 5]
    assert (cluster.bills[1].closed, cluster.bills[1].settling) == (True, False)
    assert cluster.plan.billed == 1, "lanes may forget it"
    # later than ever: two periods on
    cluster.view.enter(3, *LANES)
    cluster.view.change(0, 2, lapsed=np.array([1, 0]))
    cluster.look(desk)
    assert cluster.bills[2].lapsed == [1, 0]


def test_what_a_period_came_to_is_written_before_the_next_begins(cluster):
    """However short ago the last summary was: a lane may never say it again."""
    desk = all_in_period_one(cluster)
    cluster.view.write(0, **HUNDRED)
    desk._until_next, desk._summed = 0.0, module.time.monotonic()
    plans, commits = len(cluster.plans), cluster.topics.commits
    desk.step([])
    assert cluster.plan.period == 2
    assert cluster.bills[1].charged == [6, 4]
    assert cluster.topics.commits == commits + 2, "the bill, then the plan"
    assert len(cluster.plans) == plans + 1


@pytest.mark.parametrize("rolled", [False, True])
def test_a_successor_writes_what_its_predecessor_did_not_come_to(cluster, rolled):
    desk = all_in_period_one(cluster)
    cluster.view.write(0, **HUNDRED)
    cluster.look(desk)
    cluster.view.enter(2, *LANES)
    if rolled:
        cluster.view.change(1, 2, **HUNDRED)
        cluster.look(desk)
        cluster.view.enter(3, *LANES)
    cluster.view.change(0, 1, settled=np.array([3, 3]), settlements=HUNDRED["served"])
    successor = cluster.desk()
    cluster.look(successor)
    bill = cluster.bills[1]
    assert (bill.settled, bill.closed, bill.settling) == ([3, 3], True, False)
    assert bill.budgets == cluster.plans[0].budgets.tolist()
    cluster.view.change(0, 1, settled=np.array([4, 4]))
    with pytest.raises(KafkaException):
        cluster.look(desk)
    assert cluster.bills[1] == bill, "who was followed writes no bill"


def test_a_bill_that_is_final_is_not_summed_again_when_lanes_forget(cluster):
    desk = all_in_period_one(cluster)
    cluster.view.write(0, arrived=100, unserved=100)
    cluster.look(desk)
    cluster.view.enter(2, *LANES)
    cluster.view.change(0, 2, **HUNDRED)
    cluster.look(desk)
    assert (cluster.plan.period, cluster.plan.billed) == (3, 1)
    bill = cluster.bills[1]
    cluster.view.enter(3, *LANES)
    cluster.view.kept[0] = cluster.view.kept[0].forgetting(1)
    cluster.look(desk)
    cluster.look(cluster.desk())
    assert cluster.bills[1] == bill
    assert cluster.bills[2].charged == [6, 4]


def test_a_slow_stream_does_not_wait_for_ever(cluster, monkeypatch):
    desk = cluster.desk()
    cluster.look(desk)
    cluster.sample(3)
    cluster.give(desk)
    cluster.look(desk)
    assert not cluster.plan.learned
    later = module.time.monotonic() + 61
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    cluster.look(desk)
    assert cluster.plan.learned
    assert cluster.plan.solved_from["observed"] == 3


def test_nor_does_one_whose_periods_are_shorter_than_the_longest_wait(cluster, monkeypatch):
    desk = cluster.desk()
    cluster.look(desk)
    cluster.sample(3)
    cluster.give(desk)
    now = module.time.monotonic()
    for period in (2, 3):
        desk._begin_period(desk._planner)
        cluster.look(desk)
        cluster.sample(3, period=period)
        cluster.give(desk)
        now += 31
        monkeypatch.setattr(module.time, "monotonic", lambda now=now: now)
        cluster.look(desk)
        assert cluster.plan.period == period
    assert cluster.plan.learned
    # from here on nobody waits: a later wait would begin anew
    desk._begin_period(desk._planner)
    assert desk._first_sample is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"[]",
        b'{"shape": [1, 2], "dtype": "<f8", "quality": "AA==", "cost": ""}',
    ],
)
def test_what_is_no_sample_is_passed_over(cluster, value):
    desk = cluster.desk()
    cluster.topics.add(cluster.names.samples, value)
    cluster.sample(5, lane=99)
    cluster.sample(5, models=("a",))
    cluster.sample(5, models=("b", "a"))
    cluster.sample(10)
    cluster.give(desk)
    assert cluster.plan.version == 1
    assert cluster.plan.solved_from["observed"] == 10
