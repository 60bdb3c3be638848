"""A lane's desk: every query in one place, the ledger equal to the topics, and the same after any restart."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.catalogue import Model
from routing.money import PICO, read_pico, to_pico
from routing.plan import Plan
from streams import posting, router
from streams.charging import charge_bounds, charge_estimates
from streams.dead_letters import split_dead_letter_headers
from streams.intake import QueryIntake
from streams.ledger import LedgerRecord, account_key, account_to_dict, lane_key, period_of
from streams.ledger_log import LedgerLog
from streams.messages import Outcome, decode_samples, encode_outcome
from streams.overflow import HEADER, OverflowIntake
from streams.reservations import decode_reserved
from streams.router import RouterDesk, Shared
from streams.stages import Stages
from tests.streams.desks import MODELS, make_estimating, prompt_of
from tests.streams.kept_in_memory import Topics, record_of, settings_of

POOL = 2
PRICED = np.array([300.0, 300.0, 300.0])
ESTIMATING = make_estimating()


def a_plan(**fields) -> Plan:
    """Lanes 0 and 1 and the pool, each with a cent of every LLM."""
    cent = np.full((3, 3), PICO // 100, dtype=np.int64)
    plain = {
        "period": 1, "version": 1, "revision": 5, "models": MODELS, "active": np.ones(3, dtype=bool),
        "budgets": cent.sum(0), "prices": PRICED, "learned": True, "granted": cent, "target": cent,
        "overflow": True, "horizon": 100,
    }  # fmt: skip
    return Plan(**(plain | fields))


class Feed:
    """Which inboxes are filled from where."""

    def __init__(self) -> None:
        self.watched: dict[int, tuple[int, object]] = {}

    def watch(self, lane, offset, inbox) -> None:
        self.watched[lane] = (offset, inbox)

    def unwatch(self, lane) -> None:
        self.watched.pop(lane, None)


class House:
    """One worker's desks on topics that are lists."""

    def __init__(self, patch: pytest.MonkeyPatch, **options) -> None:
        self.topics = Topics()
        self.topics.install(patch)
        self.settings = settings_of(**options)
        self.names = self.settings.topics
        self.plans = SimpleNamespace(latest=a_plan())
        models = {name: SimpleNamespace(name=name, slug=name.replace("/", "-")) for name in (*MODELS, "new")}
        self.catalogue = SimpleNamespace(latest=SimpleNamespace(version=0), models=models)
        self.feed = Feed()
        self.written: list[LedgerRecord] = []
        self.shared = Shared(
            self.settings, self.catalogue, charge_estimates, self.plans, self.feed, Stages(),  # type: ignore[arg-type]
            self.written.append,
        )  # fmt: skip

    def desk(self, lane: int = 0) -> RouterDesk:
        if lane == POOL:
            desk = RouterDesk(self.shared, POOL, OverflowIntake(), self.names.overflow_ledger, 0)
        else:
            intake = QueryIntake(ESTIMATING.embedder, ESTIMATING.dimension, ESTIMATING.estimator)
            desk = RouterDesk(self.shared, lane, intake, self.names.ledger, lane)
        desk.open()
        return desk

    def send(self, *ids: str, lane: int = 0, headers=(), most: int | None = None) -> None:
        for name in ids:
            value = orjson.dumps({"id": name, "prompt": prompt_of(name), "team": 7, "max_tokens": most})
            self.topics.add(self.names.queries, value, lane, headers)

    def give(self, desk: RouterDesk, most: int = 10**6) -> int:
        """Deliver the lane's input from the desk's position on, as far as its limit allows."""
        desk.look()
        topic, partition = (self.names.overflow, 0) if desk.lane == POOL else (self.names.queries, desk.lane)
        waiting = self.topics.of(topic, partition)[desk.position :][: min(most, desk.limit)]
        if waiting:
            desk.step([record_of(message, topic, partition) for message in waiting])
        return len(waiting)

    def step(self, desk: RouterDesk) -> None:
        desk.look()
        desk.step([])

    def places(self) -> dict[str, list[str]]:
        """Where each query is, as a reader of what is committed sees it."""
        found: dict[str, list[str]] = {}
        named = {self.names.llm(model.slug): name for name, model in self.catalogue.models.items()}
        named |= {self.names.unserved: "unserved", self.names.dlq: "dlq"}
        for (topic, _), messages in self.topics.kept.items():
            if topic in named:
                for message in messages:
                    body = orjson.loads(message.value())
                    found.setdefault(body["id"], []).append(named[topic])
        return found

    def routed(self) -> list[dict]:
        out = []
        for name, model in self.catalogue.models.items():
            for message in self.topics.of(self.names.llm(model.slug)):
                out.append(orjson.loads(message.value()))
                assert out[-1]["routing"]["model"] == name
        return out

    def ledger(self, lane: int) -> LedgerRecord:
        topic, partition = (self.names.overflow_ledger, 0) if lane == POOL else (self.names.ledger, lane)
        log = LedgerLog()
        for message in self.topics.of(topic, partition):
            log.take(message.key(), message.value())
        return log.record()  # type: ignore[return-value]

    def assert_whole(self, *lanes: int) -> None:
        """Ledgers say what the topics say."""
        for lane in lanes:
            record = self.ledger(lane)
            told = {
                (body["partition"], body["offset"]): int(to_pico(body["cost"]))
                for message in self.topics.of(self.names.outcomes, lane)[: record.outcomes_next]
                for body in [orjson.loads(message.value())]
                if "cost" in body
            }
            for account in record.accounts:
                charged, served, settled = np.zeros((3, len(record.models)), dtype=np.int64)
                for query in self.routed():
                    routing = query["routing"]
                    if routing["partition"] == lane and routing["period"] == account.period:
                        i = record.models.index(routing["model"])
                        charged[i] += int(read_pico(routing["cost"]))
                        served[i] += 1
                        settled[i] += told.get((lane, routing["offset"]), 0)
                width = len(account.reserved)
                assert account.reserved.tolist() == charged[:width].tolist()
                assert account.served.tolist() == served[:width].tolist()
                assert account.settled.tolist() == settled[:width].tolist()
            left = record.account.available(self.plans.latest.granted[lane])
            assert record.account.settlements.any() or (left >= 0).all()

    def samples(self) -> list[tuple[int, int, int, int, int]]:
        """Period, lane, begin, end and number of each message of samples."""
        out = []
        for message in self.topics.of(self.names.samples):
            header, quality, _ = decode_samples(message.value())
            out.append((header["period"], header["lane"], header["begin"], header["end"], len(quality)))
        return out


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def ids(count: int, start: int = 0) -> list[str]:
    return [f"q{number}" for number in range(start, start + count)]


# --- routing ------------------------------------------------------------------------------------------------


def test_every_query_is_in_one_place_and_the_ledger_says_so(house):
    rich = np.full((3, 3), PICO, dtype=np.int64)
    house.plans.latest = a_plan(granted=rich, target=rich)
    desk = house.desk()
    house.send(*ids(30))
    house.topics.add(house.names.queries, b'{"id": "bad", "prompt": ""}')
    house.send(*ids(20, 30))
    while house.give(desk, 7):
        pass
    places = house.places()
    assert set(places) == {*ids(50), "bad"}
    assert all(len(where) == 1 for where in places.values())
    assert places["bad"] == ["dlq"]
    record = house.ledger(0)
    assert (record.next, record.account.arrived, record.account.dead) == (51, 50, 1)
    house.assert_whole(0)
    assert all(query["team"] == 7 for query in house.routed())


def test_a_dead_letter_says_what_was_wrong_and_keeps_its_bytes(house):
    desk = house.desk()
    message = house.topics.add(house.names.queries, b'{"id":  1}', headers=[("traceparent", b"t")])
    house.give(desk)
    letter = house.topics.of(house.names.dlq)[0]
    original, errors = split_dead_letter_headers(letter.headers())
    assert (letter.value(), original) == (message.value(), [("traceparent", b"t")])
    assert (errors["topic"], errors["offset"], errors["stage"]) == (house.names.queries, "0", "decode")


def test_reservations_say_what_was_decided_by_which_rights(house):
    desk = house.desk()
    house.send(*ids(9))
    house.give(desk)
    (message,) = house.topics.of(house.names.reservations)
    reserved = decode_reserved(message.value())
    by_offset = {query["routing"]["offset"]: query for query in house.routed()}
    assert reserved.offsets.tolist() == sorted(by_offset)
    for offset, model, charge in zip(reserved.offsets, reserved.model, reserved.charge, strict=True):
        routing = by_offset[int(offset)]["routing"]
        assert routing["model"] == MODELS[model]
        assert int(read_pico(routing["cost"])) == charge
    assert (reserved.begin, reserved.end, reserved.revision) == (0, 9, 5)
    assert reserved.available.tolist() == [PICO // 100] * 3


def test_what_the_lane_cannot_pay_goes_through_the_overflow_lane(house):
    granted = np.array([[0, 0, 0], [0, 0, 0], [PICO, PICO, PICO]], dtype=np.int64)
    house.plans.latest = a_plan(granted=granted, target=granted)
    desk, pool = house.desk(0), house.desk(POOL)
    house.send(*ids(20), headers=[("traceparent", b"t")])
    house.give(desk)
    deferred = len(house.topics.of(house.names.overflow))
    assert deferred + len(house.topics.of(house.names.unserved)) == 20
    assert deferred > 0
    house.give(pool)
    assert set(house.places()) == set(ids(20))
    for query in house.routed():
        assert query["routing"]["partition"] == POOL
        assert query["routing"]["source"][0] == 0
        assert query["id"] == f"q{query['routing']['source'][1]}"
    for name in MODELS:
        for message in house.topics.of(house.names.llm(house.catalogue.models[name].slug)):
            assert message.headers() == [("traceparent", b"t")]
    assert house.ledger(0).account.deferred == deferred
    house.assert_whole(0, POOL)


def test_the_message_says_for_how_many_answer_tokens_a_bound_was_reserved(house):
    """Also of a deferred query: what the lane that deferred it reserved, whatever is the default by then."""
    priced = {name: Model(name, input_price=0.01, output_price=0.01) for name in MODELS}
    house.shared = replace(house.shared, charge=charge_bounds(lambda: priced, 50))
    granted = np.array([[PICO] * 3, [0] * 3, [PICO] * 3], dtype=np.int64)
    house.plans.latest = a_plan(granted=granted, target=granted)
    house.send("own", most=9)
    house.send("default")
    house.send("deferred", lane=1)
    house.send("deferred own", lane=1, most=9)
    house.give(house.desk(0))
    house.give(house.desk(1))
    assert len(house.topics.of(house.names.overflow)) == 2
    house.shared = replace(house.shared, charge=charge_bounds(lambda: priced, 5000))
    house.give(house.desk(POOL))
    told = {query["id"]: query["routing"]["max_tokens"] for query in house.routed()}
    assert told == {"own": 9, "default": 50, "deferred": 50, "deferred own": 9}


def test_an_estimate_says_nothing_of_answer_tokens(house):
    house.send(*ids(5))
    house.give(house.desk(0))
    assert house.routed()
    assert not any("max_tokens" in query["routing"] for query in house.routed())


def test_deferred_queries_of_a_plan_with_more_or_fewer_llms_are_decided(house):
    """A catalogue grew: the pool's plan may be newer or older than the one a query was deferred by."""
    nothing = np.zeros((3, 3), dtype=np.int64)
    house.plans.latest = a_plan(granted=nothing, target=nothing)
    desk, pool = house.desk(0), house.desk(POOL)
    house.send(*ids(4))
    house.give(desk)
    wide = {
        "models": (*MODELS, "new"), "active": np.ones(4, dtype=bool), "budgets": np.full(4, PICO),
        "prices": np.append(PRICED, 300.0), "granted": np.zeros((3, 4), np.int64),
        "target": np.zeros((3, 4), np.int64), "revision": 6,
    }  # fmt: skip
    house.plans.latest = a_plan(**wide)
    house.send(*ids(4, 4))
    house.give(desk)
    rich = np.full((3, 3), PICO, dtype=np.int64)
    house.plans.latest = a_plan(granted=rich, target=rich, revision=7)
    deferred = len(house.topics.of(house.names.overflow))
    assert house.give(pool, deferred - 1) == deferred - 1
    house.plans.latest = a_plan(
        **{**wide, "granted": np.full((3, 4), PICO), "target": np.full((3, 4), PICO), "revision": 8}
    )
    house.give(pool)
    assert set(house.places()) == set(ids(8))
    assert "new" not in {query["routing"]["model"] for query in house.routed()}
    house.assert_whole(POOL)


def test_an_older_plan_than_the_ledgers_is_not_taken_up(house):
    desk = house.desk()
    house.send(*ids(3))
    house.give(desk)
    house.plans.latest = a_plan(revision=4, version=0, learned=False)
    successor = house.desk()
    assert successor.limit == 0
    assert not successor.restless
    assert successor.position == 3
    house.plans.latest = a_plan()
    successor.look()
    assert successor.limit > 0


def test_lockstep_stops_where_a_solve_is_due(monkeypatch):
    house = House(monkeypatch, partitions=1, lockstep=True)
    house.plans.latest = a_plan(until=5, overflow=False)
    desk = house.desk()
    house.send(*ids(4))
    house.topics.add(house.names.queries, b"no query")
    house.send(*ids(4, 4))
    while house.give(desk):
        pass
    assert house.ledger(0).account.arrived == 5
    house.plans.latest = a_plan(until=None, overflow=False, revision=6)
    house.give(desk)
    assert house.ledger(0).account.arrived == 8


def test_rights_beyond_the_target_are_given_back_once(house):
    desk = house.desk()
    half = house.plans.latest.target // 2
    house.plans.latest = a_plan(target=half, revision=6)
    desk.look()
    assert desk.restless
    house.step(desk)
    assert house.ledger(0).account.released.tolist() == half[0].tolist()
    assert not desk.restless


# --- warm-up ------------------------------------------------------------------------------------------------


def waiting_plan(**fields) -> Plan:
    return a_plan(**({"version": 0, "learned": False, "until": 10, "prices": np.zeros(3)} | fields))


def test_warm_up_sends_each_sample_once_and_decides_later(house):
    house.plans.latest = waiting_plan()
    desk = house.desk()
    house.send(*ids(12))
    house.give(desk, 5)
    house.give(desk, 5)
    assert house.samples() == [(1, 0, 0, 5, 5), (1, 0, 5, 10, 5)]
    assert (house.ledger(0).next, house.ledger(0).sampled, desk.position) == (0, 10, 10)
    assert house.places() == {}
    house.plans.latest = a_plan(until=50, revision=6)
    desk.look()
    assert desk.position == 0
    house.give(desk)
    assert set(house.places()) == set(ids(12))
    assert house.samples()[2:] == [(1, 0, 10, 12, 2)]


def test_what_is_refused_before_any_query_waits_for_no_plan(house):
    """Nothing else may ever come, and then there will be no plan."""
    house.plans.latest = waiting_plan()
    desk = house.desk()
    for name in ids(2):
        house.topics.add(house.names.queries, orjson.dumps({"id": name}), 0)
    house.give(desk)
    assert house.places() == {"q0": ["dlq"], "q1": ["dlq"]}
    assert (house.ledger(0).next, house.ledger(0).account.dead, house.samples()) == (2, 2, [])
    house.topics.add(house.names.queries, orjson.dumps({"id": "q2"}), 0)
    house.send("q3")
    house.topics.add(house.names.queries, orjson.dumps({"id": "q4"}), 0)
    house.give(desk)
    assert (house.ledger(0).next, house.ledger(0).sampled) == (3, 5)
    house.topics.add(house.names.queries, orjson.dumps({"id": "q5"}), 0)
    house.give(desk)
    assert set(house.places()) == {"q0", "q1", "q2"}, "behind one that waits the others wait too"
    assert house.samples() == [(1, 0, 3, 5, 1)]
    house.plans.latest = a_plan(revision=6)
    house.give(desk)
    assert {name: len(places) for name, places in house.places().items()} == dict.fromkeys(ids(6), 1)
    assert house.ledger(0).account.dead == 5


def test_what_still_waits_when_a_period_begins_is_sampled_for_it(house):
    """Else its planner, which knows nothing of before, might wait for samples that never come."""
    house.plans.latest = waiting_plan()
    desk = house.desk()
    house.send(*ids(6))
    house.give(desk)
    house.plans.latest = waiting_plan(period=2, revision=6)
    desk.look()
    assert desk.position == 0
    assert desk.restless
    house.give(desk)
    assert house.samples() == [(1, 0, 0, 6, 6), (2, 0, 0, 6, 6)]
    assert (house.ledger(0).account.period, house.ledger(0).sampled) == (2, 6)


def test_queries_sampled_ahead_are_sampled_for_the_period_that_decides_them(house):
    house.plans.latest = waiting_plan()
    desk = house.desk()
    house.send(*ids(20))
    house.give(desk)
    house.plans.latest = a_plan(revision=6)
    house.give(desk, 8)
    house.plans.latest = a_plan(period=2, revision=7, until=10)
    house.give(desk)
    assert house.samples() == [(1, 0, 0, 20, 20), (2, 0, 8, 20, 12)]
    assert set(house.places()) == set(ids(20))


def test_a_waiting_lane_that_holds_too_much_is_not_restless(house):
    """It gives back when it routes; until then every look would be a transaction for nothing."""
    house.plans.latest = waiting_plan(target=np.zeros((3, 3), np.int64))
    desk = house.desk()
    house.send(*ids(1))
    house.give(desk)
    desk.look()
    assert not desk.restless


def test_the_overflow_lane_waits_in_warm_up(house):
    house.plans.latest = waiting_plan()
    assert house.desk(POOL).limit == 0


# --- periods and outcomes -----------------------------------------------------------------------------------


def outcome_of(query: dict, cost: float) -> bytes:
    routing = query["routing"]
    return encode_outcome(
        Outcome(query["id"], routing["model"], cost, None, routing["partition"], routing["offset"])
    )


def final_period(house: House) -> int:
    """Up to which no account of any lane can change any more, as a planner finds it."""
    records = [house.ledger(lane) for lane in (0, POOL)]
    billed = house.plans.latest.billed
    while all(record is not None and record.account.period > billed + 1 for record in records):
        accounts = [a for one in records if (a := one.account_of(billed + 1)) is not None]
        if any((a.served != a.settlements + a.lapsed).any() for a in accounts):
            break
        billed += 1
    return billed


def take_outcomes(house: House, desk: RouterDesk) -> None:
    """What the feed does: outcomes from the watched offset on, into the inbox."""
    offset, inbox = house.feed.watched[desk.lane]
    inbox.extend(house.topics.of(house.names.outcomes, desk.lane)[offset:])  # type: ignore[attr-defined]
    house.feed.watched[desk.lane] = (len(house.topics.of(house.names.outcomes, desk.lane)), inbox)


def test_a_period_begins_with_a_fresh_account_and_settles_the_one_before(house):
    desk = house.desk()
    house.send(*ids(10))
    house.give(desk)
    before = house.ledger(0).account
    house.plans.latest = a_plan(period=2, revision=9)
    desk.look()
    assert desk.restless
    house.step(desk)
    record = house.ledger(0)
    assert (record.account.period, record.account.arrived) == (2, 0)
    assert record.past[1].charged.tolist() == before.charged.tolist()
    for query in house.routed():
        house.topics.add(house.names.outcomes, outcome_of(query, 0.0))
    take_outcomes(house, desk)
    house.step(desk)
    assert house.ledger(0).past[1].charged.tolist() == [0, 0, 0]
    assert house.ledger(0).account.charged.tolist() == [0, 0, 0]


def accounts_written(house: House, lane: int = 0) -> list[tuple[int, bool]]:
    """Period, and whether it was kept or taken away, of each account on the lane's ledger."""
    keys = [(period_of(m.key()), m.value()) for m in house.topics.of(house.names.ledger, lane)]
    return [(period, value is not None) for period, value in keys if period is not None]


def test_outcomes_settle_into_periods_long_over_and_what_is_saved_stays_there(house):
    desk = house.desk()
    for period in (1, 2, 3, 4):
        house.plans.latest = a_plan(period=period, revision=5 + period)
        house.send(*ids(6, 6 * period))
        house.give(desk)
    assert accounts_written(house) == [(1, True), (2, True), (3, True)], "written when a period ends"
    present = house.ledger(0).account
    late = sorted(house.routed(), key=lambda query: query["routing"]["period"])
    late = [query for query in late if query["routing"]["period"] in (1, 3)]
    for query in late[:-1]:
        house.topics.add(house.names.outcomes, outcome_of(query, 2 * query["routing"]["cost"]))
    house.topics.add(house.names.outcomes, outcome_of(late[0], 2 * late[0]["routing"]["cost"]))
    take_outcomes(house, desk)
    house.step(desk)
    record = house.ledger(0)
    assert record.outcomes == {"settled": len(late) - 1, "duplicate": 1}
    house.assert_whole(0)
    first = record.past[1]
    assert first.charged.tolist() == first.settled.tolist()
    assert first.charged.sum() > 1.9 * first.reserved.sum(), "overruns are on the bill"
    assert record.account.charged.tolist() == present.charged.tolist()
    assert accounts_written(house)[3:] == [(1, True), (3, True)], "what does not change is not written"
    # another worker knows the same, settles the rest, and takes nothing twice
    successor = house.desk()
    house.topics.add(house.names.outcomes, outcome_of(late[-1], 0.0))
    for query in late[:-1]:
        house.topics.add(house.names.outcomes, outcome_of(query, 2 * query["routing"]["cost"]))
    take_outcomes(house, successor)
    house.step(successor)
    assert house.ledger(0).outcomes == {"settled": len(late), "duplicate": len(late)}
    house.assert_whole(0)


def test_an_account_is_kept_until_nothing_is_open_and_its_bill_is_written_for_good(house, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(router.time, "time", lambda: now[0])
    monkeypatch.setattr(posting.time, "time", lambda: now[0])
    desk = house.desk()
    for period in (1, 2):
        house.plans.latest = a_plan(period=period, revision=5 + period)
        house.send(*ids(6, 6 * period))
        house.give(desk)
    house.plans.latest = a_plan(period=3, revision=8, billed=1)
    house.step(desk)
    assert list(house.ledger(0).past) == [1, 2], "reservations are open"
    now[0] += 3601
    house.step(desk)
    record = house.ledger(0)
    assert [record.past[period].lapsed.sum() for period in (1, 2)] == [6, 6]
    assert record.account.lapsed.sum() == 0
    house.plans.latest = a_plan(period=4, revision=9, billed=1)
    house.step(desk)
    record = house.ledger(0)
    assert (list(record.past), record.forgotten) == ([2, 3], 1)
    assert accounts_written(house)[-2:] == [(1, False), (3, True)]
    assert list(house.desk().record.past) == [2, 3]
    # an outcome beyond the limit is refused, and changes no account
    query = next(query for query in house.routed() if query["routing"]["period"] == 1)
    house.topics.add(house.names.outcomes, outcome_of(query, 0.0))
    desk = house.desk()
    take_outcomes(house, desk)
    house.step(desk)
    assert house.ledger(0).outcomes == {"late": 1}
    house.assert_whole(0)


def test_a_period_whose_reservations_were_lost_is_not_open_for_ever(house):
    desk = house.desk()
    house.send(*ids(6))
    house.give(desk)
    house.topics.of(house.names.reservations, 0).clear()
    desk = house.desk()
    house.send(*ids(3, 6))
    house.give(desk)
    house.plans.latest = a_plan(period=2, revision=6)
    house.step(desk)
    account = house.ledger(0).past[1]
    assert (account.served.sum(), account.lapsed.sum()) == (9, 0), "some are still known"
    for query in house.routed():
        house.topics.add(house.names.outcomes, outcome_of(query, query["routing"]["cost"]))
    take_outcomes(house, desk)
    house.step(desk)
    assert house.ledger(0).outcomes == {"settled": 3, "late": 6}
    desk._settlement._seconds = -1.0  # their time has passed
    house.step(desk)
    account = house.ledger(0).past[1]
    assert (account.settlements.sum(), account.lapsed.sum()) == (3, 6)
    assert account.charged.tolist() == account.reserved.tolist(), "it stays charged"


def test_the_single_closed_account_of_an_older_version_is_taken_over(house):
    desk = house.desk()
    house.send(*ids(6))
    house.give(desk)
    house.plans.latest = a_plan(period=2, revision=6)
    house.step(desk)
    record = house.ledger(0)
    plain = record.to_dict() | {"closed": account_to_dict(record.past[1])}
    del plain["forgotten"]
    ledger = house.topics.of(house.names.ledger, 0)
    ledger[:] = []
    value = orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)
    house.topics.add(house.names.ledger, value).name = lane_key(0)
    desk = house.desk()
    for query in house.routed():
        house.topics.add(house.names.outcomes, outcome_of(query, 0.0))
    take_outcomes(house, desk)
    house.step(desk)
    record = house.ledger(0)
    assert record.past[1].settlements.sum() == 6
    assert not record.past[1].charged.any()
    assert [message.key() for message in ledger[1:]] == [account_key(0, 1), lane_key(0)]


def test_refused_outcomes_are_dead_letters(house):
    desk = house.desk()
    house.topics.add(house.names.outcomes, b"{}", 0, [("h", b"v")])
    take_outcomes(house, desk)
    desk.look()
    assert desk.restless
    house.step(desk)
    (letter,) = house.topics.of(house.names.outcomes_dlq)
    original, errors = split_dead_letter_headers(letter.headers())
    assert (letter.value(), original, errors["offset"]) == (b"{}", [("h", b"v")], "0")
    assert house.ledger(0).outcomes_next == 1


# --- restarts -----------------------------------------------------------------------------------------------

happenings = st.lists(
    st.tuples(
        st.sampled_from(["give", "pool", "fail", "kill", "freeze", "outcomes", "plan", "period", "learn"]),
        st.integers(1, 9),
    ),
    max_size=30,
)


@given(happenings, st.booleans())
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_or_done_twice_whatever_happens(events, learned):
    with pytest.MonkeyPatch.context() as patch:
        house = House(patch, partitions=2)
        small = np.full((3, 3), PICO // 1000, dtype=np.int64)
        small[POOL] *= 5
        house.plans.latest = a_plan(granted=small, target=small, learned=learned, version=int(learned))
        house.send(*ids(40))
        desks = {lane: house.desk(lane) for lane in (0, POOL)}
        settled = 0

        def attempt(lane: int, most: int = 5) -> int:
            try:
                return house.give(desks[lane], most)
            except KafkaException:
                desks[lane].close()
                desks[lane] = house.desk(lane)
                return 1
            finally:
                house.topics.fail = lambda: None

        def broken() -> None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "gone"))

        for name, number in events:
            plan = house.plans.latest
            if name == "give":
                attempt(0, number)
            elif name == "pool":
                attempt(POOL, number)
            elif name == "fail":
                house.topics.fail = broken
                attempt(0, number)
            elif name == "kill":
                desks[number % 2 * POOL] = house.desk(number % 2 * POOL)
            elif name == "freeze":
                frozen = desks[0]
                desks[0] = house.desk(0)
                attempt(0, number)
                with pytest.raises(KafkaException):
                    house.step(frozen)
            elif name == "outcomes":
                for query in house.routed()[settled : settled + number]:
                    lane = query["routing"]["partition"]
                    value = outcome_of(query, query["routing"]["cost"] / 2)
                    house.topics.add(house.names.outcomes, value, lane)
                for desk in desks.values():
                    take_outcomes(house, desk)
                    desk.look()
                    desk.step([])
            elif name == "plan":
                more = plan.granted + PICO // 2000 * (number % 3)
                house.plans.latest = plan.changed(granted=more, target=more)
            elif name == "period":
                house.plans.latest = plan.changed(period=plan.period + 1, billed=final_period(house))
            else:
                house.plans.latest = plan.changed(learned=True, version=1)
        house.plans.latest = house.plans.latest.changed(learned=True, version=1)
        for lane in (0, POOL):
            while attempt(lane):
                pass
        places = house.places()
        assert set(places) == set(ids(40))
        assert Counter(map(len, places.values())) == {1: 40}
        for desk in desks.values():
            take_outcomes(house, desk)
            desk.look()
            desk.step([])
        house.assert_whole(0, POOL)
        stretches: dict[int, int] = {}
        for period, _, begin, end, count in house.samples():
            assert begin >= stretches.get(period, 0)
            assert count <= end - begin
            stretches[period] = end


def test_a_header_of_ours_that_a_client_sends_is_not_taken_for_ours(house):
    granted = np.array([[0, 0, 0], [0, 0, 0], [PICO, PICO, PICO]], dtype=np.int64)
    house.plans.latest = a_plan(granted=granted, target=granted)
    desk, pool = house.desk(0), house.desk(POOL)
    house.send("q0", headers=[(HEADER, b"mine"), ("x", b"y")])
    house.give(desk)
    house.give(pool)
    assert house.places()["q0"] != ["dlq"]
    (query,) = [m for m in house.topics.kept.values() for m in m if m.value() and b'"routing"' in m.value()]
    assert query.headers() == [(HEADER, b"mine"), ("x", b"y")]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"{",
        b"[]",
        b'{"partition": 0, "offset": 1}',
        b'{"partition": 0, "offset": 1, "quality": "A", "cost": "", "charge": ""}',
    ],
)
def test_a_deferred_query_that_nobody_deferred_is_a_dead_letter(house, content):
    pool = house.desk(POOL)
    headers = [] if content is None else [(HEADER, content)]
    house.topics.add(house.names.overflow, b'{"id": "x", "prompt": "y"}', 0, headers)
    house.give(pool)
    assert house.places() == {"x": ["dlq"]}
    assert house.ledger(POOL).next == 1
