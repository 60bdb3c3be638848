"""Bills of periods."""

import orjson
import pytest

from routing.budgets.money import to_pico, to_usd
from streams.__main__ import main
from streams.commands.bill import table
from streams.ledger.period_summary import PeriodSummary
from streams.operations.period_bills import bill_of
from tests.streams.conftest import BUDGETS
from tests.streams.stepped_router import MODELS, SteppedRouter

CLOSED = PeriodSummary(
    period=3,
    closed=True,
    settling=True,
    models=("a", "vendor/b"),
    budgets=[2_000_000_000_000, 500_000_000_000],
    reserved=[1_500_000_000_000, 600_000_000_000],
    settled=[1_000_000_000_000, 550_000_000_000],
    charged=[1_250_000_000_000, 550_000_000_000],
    served=[10, 4],
    settlements=[8, 4],
    lapsed=[1, 0],
    arrived=20,
    unserved=5,
    deferred=2,
    dead=1,
)


def test_bill_of_a_period_is_in_usd():
    bill = bill_of(CLOSED)

    assert bill["llms"][0] == {
        "name": "a",
        "budget": 2.0,
        "reserved": 1.5,
        "settled": 1.0,
        "open": 0.25,
        "charged": 1.25,
        "left": 0.75,
        "served": 10,
        "settlements": 8,
        "lapsed": 1,
    }
    assert bill["llms"][1]["left"] == -0.05  # answers were dearer than reserved, and that is shown
    assert bill["total"] == {
        "budget": 2.5,
        "reserved": 2.1,
        "settled": 1.55,
        "open": 0.25,
        "charged": 1.8,
        "left": 0.7,
        "served": 14,
        "settlements": 12,
        "lapsed": 1,
    }
    assert (bill["queries"], bill["served"], bill["unserved"], bill["dead"]) == (20, 14, 5, 1)


def test_bill_of_a_period_has_its_state():
    final = bill_of(PeriodSummary(**{**vars(CLOSED), "settling": False}))
    current = bill_of(PeriodSummary(**{**vars(CLOSED), "closed": False}))
    assert [bill["settling"] for bill in (bill_of(CLOSED), final, current)] == [True, False, True]
    heads = [table(bill).split(":")[0] for bill in (bill_of(CLOSED), final, current)]
    assert heads == ["period 3 (closed, outcomes may come)", "period 3 (closed)", "period 3 (current)"]


def test_bill_of_a_period_without_known_budgets_has_none():
    bill = bill_of(PeriodSummary(**{**vars(CLOSED), "budgets": None}))

    assert (bill["total"]["budget"], bill["llms"][0]["left"]) == (None, None)
    assert "unknown" in table(bill)


def test_bill_command_prints_the_totals_of_the_ledgers(
    stepped: SteppedRouter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, value in stepped.variables().items():
        monkeypatch.setenv(name, value)
    accounts = [stepped.lane(lane).record.account for lane in (0, 1, 2)]

    assert main(["bill", "--json"]) == 0
    bills = orjson.loads(capsys.readouterr().out)
    assert main(["bill"]) == 0
    printed = capsys.readouterr().out
    assert main(["bill", "--period", "7"]) == 1

    assert [(bill["period"], bill["closed"]) for bill in bills] == [(1, False)]
    for i, llm in enumerate(bills[0]["llms"]):
        reserved = sum(int(account.reserved[i]) for account in accounts)
        assert llm["name"] == MODELS[i]
        assert llm["budget"] == BUDGETS[llm["name"]]
        assert llm["reserved"] == float(to_usd(reserved))
        assert llm["left"] == float(to_usd(to_pico(llm["budget"]) - to_pico(llm["charged"])))
        assert llm["served"] == sum(int(account.served[i]) for account in accounts)
    assert bills[0]["dead"] == 1
    assert bills[0]["served"] + bills[0]["unserved"] + bills[0]["dead"] == bills[0]["queries"] + 1
    assert "period 1 (current): 26 queries" in printed
    assert "vendor/middle" in printed
    assert "no period 7" in capsys.readouterr().err
