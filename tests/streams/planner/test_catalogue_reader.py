"""Versions of the catalogue as messages, and the catalogue in force before the first one."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
import structlog
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from routing.budgets.catalogue import Catalogue
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.list_prices import PriceChange, list_prices_of
from routing.policy.plan import Plan
from streams.config.settings import Settings
from streams.messages.catalogue import (
    CATALOGUE_KEY,
    CatalogueVersion,
)
from streams.planner.catalogue_diff import catalogue_from_plan, differences
from streams.planner.catalogue_publisher import (
    history_prices,
)
from streams.planner.catalogue_reader import (
    CatalogueReader,
    prices_under,
)
from tests.conftest import create_topic

MODELS = [
    {"name": "a", "budget_usd": 0.1, "input_price": 1.0, "output_price": 2.0},
    {"name": "b", "budget_usd": 1e4 / 3, "input_price": 3},
]


def catalogue(**a: float) -> Catalogue:
    return Catalogue.from_dict({"models": [MODELS[0] | a, MODELS[1]]})


DOUBLED = catalogue(input_price=2.0, output_price=4.0)


def plan_of(file: Catalogue) -> Plan:
    """Return the plan of a planner that starts with a file."""
    budgets = file.budget_per_llm(np.array([0.5, 0.5]), np.array([1e-3, 2e-3]))
    planner = Planner(
        PlanningSettings(100), file.names, budgets, list_prices=CatalogueVersion(0, file).list_prices
    )
    return planner.start_period()


def test_catalogue_version_with_history_prices_is_decoded_with_them():
    version = CatalogueVersion(3, DOUBLED, list_prices_of(catalogue()))
    again = CatalogueVersion.decode(version.encode())
    assert again == version
    assert again.list_prices == PriceChange(list_prices_of(DOUBLED), {"a": [1.0, 2.0], "b": [3, None]})


def test_catalogue_version_of_older_release_is_decoded():
    value = orjson.dumps({"version": 3, "catalogue": DOUBLED.to_dict()})
    version = CatalogueVersion.decode(value)
    assert version == CatalogueVersion(3, DOUBLED)
    assert version.encode() == value


@pytest.mark.parametrize("file", [catalogue(), DOUBLED], ids=["first", "edited"])
def test_history_prices_do_not_depend_on_the_file(file: Catalogue):
    first = list_prices_of(catalogue())
    plan = plan_of(catalogue())
    assert history_prices(CatalogueVersion(0, catalogue_from_plan(file, plan)), plan, file) == first
    # published by an older release, and applied by a planner with the history's prices
    assert history_prices(CatalogueVersion(1, DOUBLED), plan, file) == first
    assert history_prices(CatalogueVersion(2, DOUBLED, first), None, file) == first


def test_catalogue_from_plan_without_plan_returns_file():
    assert history_prices(CatalogueVersion(0, DOUBLED), None, DOUBLED) == list_prices_of(DOUBLED)


@pytest.mark.parametrize(
    ("edited", "change"),
    [
        (catalogue(), []),
        (DOUBLED, ["a: input_price 1 -> 2", "a: output_price 2 -> 4"]),
        (catalogue(budget_usd=0.2), ["a: budget_usd 0.1 -> 0.2"]),
        (Catalogue.from_dict({"models": MODELS[1:]}), ["a: removed"]),
    ],
)
def test_catalogue_from_plan_with_edited_file_differs_from_it(edited: Catalogue, change: list[str]):
    in_force = catalogue_from_plan(edited, plan_of(catalogue()))
    assert list(map(str, differences(in_force, edited))) == change


@pytest.mark.parametrize(("total", "change"), [(5.0, []), (7.0, ["all: budget_usd 5 -> 7"])])
def test_catalogue_from_plan_with_edited_total_differs_from_file(total: float, change: list[str]):
    def split(amount: float) -> Catalogue:
        return Catalogue.from_dict({"budget_usd": amount, "models": ["a", {"name": "b", "input_price": 3}]})

    in_force = catalogue_from_plan(split(total), plan_of(split(5.0)))
    assert list(map(str, differences(in_force, split(total)))) == change


def test_catalogue_from_plan_keeps_the_period_of_the_file():
    monthly = Catalogue.from_dict({"models": MODELS, "period": "month"})
    in_force = catalogue_from_plan(monthly, plan_of(monthly))
    assert in_force.period == monthly.period
    hourly = Catalogue.from_dict({"models": MODELS, "period": {"seconds": 3600}})
    (change,) = map(str, differences(in_force, hourly))
    assert change.startswith("all: period {'every': 'month', 'start_day': 1,")
    assert change.endswith(" -> {'seconds': 3600.0}")


@pytest.fixture
def reader(tmp_path: Path) -> Callable[[Catalogue], CatalogueReader]:
    """Return a function that makes the reader of a worker with a file."""

    def make(file: Catalogue) -> CatalogueReader:
        path = tmp_path / "catalogue.yaml"
        path.write_text(yaml.safe_dump(file.to_dict()))
        return CatalogueReader(
            Settings(catalogue=path, bootstrap_servers="nobody:9092"), lambda version: None
        )

    return make


def test_compare_file_with_other_catalogue_in_force_logs_differences(
    reader: Callable[[Catalogue], CatalogueReader],
) -> None:
    assert reader(DOUBLED).compare_file(plan_of(DOUBLED)) == []
    assert len(reader(DOUBLED).compare_file(plan_of(catalogue()))) == 2
    behind = reader(catalogue())
    behind.latest = CatalogueVersion(1, DOUBLED)
    assert len(behind.compare_file(plan_of(catalogue()))) == 2


def test_catalogue_reader_at_start_reports_only_newest_version(
    bootstrap_servers: str, admin: AdminClient, unique: Callable[[str], str], tmp_path: Path
):
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump(catalogue().to_dict()))
    prefix = unique("versions") + "."
    settings = Settings(catalogue=path, bootstrap_servers=bootstrap_servers, topic_prefix=prefix)
    topic = settings.topics.catalogue
    create_topic(admin, topic, 1, {})
    producer = Producer({"bootstrap.servers": bootstrap_servers})

    def publish(*versions: int) -> None:
        for version in versions:
            producer.produce(topic, CatalogueVersion(version, DOUBLED).encode(), CATALOGUE_KEY)
        assert producer.flush(30) == 0

    publish(1, 2, 3)
    newer = threading.Event()
    reader = CatalogueReader(settings, lambda version: newer.set() if version.version == 4 else None)
    with structlog.testing.capture_logs() as logs:
        reader.start()
        assert reader.wait(30)
        publish(4)
        assert newer.wait(30)
        reader.stop()

    reported = [entry["version"] for entry in logs if entry["event"] == "catalogue_in_force"]
    assert reported == [3, 4]


def test_prices_before_first_version_are_those_of_the_plan():
    plan = plan_of(catalogue())
    first = {"a": [1.0, 2.0], "b": [3.0, None]}
    assert prices_under(CatalogueVersion(0, catalogue()), plan) == first
    # an edited file, or another worker's file, changes nothing by itself
    assert prices_under(CatalogueVersion(0, DOUBLED), plan) == first
    assert prices_under(CatalogueVersion(0, Catalogue.from_dict({"models": MODELS[1:]})), plan) == first
    assert prices_under(CatalogueVersion(1, DOUBLED), plan)["a"] == [2.0, 4.0]
    # a removed LLM has no price, so no query can reserve on it
    assert "a" not in prices_under(CatalogueVersion(2, Catalogue.from_dict({"models": MODELS[1:]})), plan)
