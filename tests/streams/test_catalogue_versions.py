"""A version of the catalogue as a message, and what is in force where none was published."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml

from routing.catalogue import Catalogue
from routing.list_prices import PriceChange, listed
from routing.plan import Plan
from routing.planning import Planner, PlanningSettings
from streams.catalogue_change import as_planned, differences
from streams.catalogue_versions import CatalogueReader, CatalogueVersion
from streams.commands.plan import history_prices
from streams.settings import Settings

MODELS = [
    {"name": "a", "budget_usd": 0.1, "input_price": 1.0, "output_price": 2.0},
    {"name": "b", "budget_usd": 1e4 / 3, "input_price": 3},
]


def catalogue(**a: float) -> Catalogue:
    return Catalogue.from_dict({"models": [MODELS[0] | a, MODELS[1]]})


DOUBLED = catalogue(input_price=2.0, output_price=4.0)


def plan_of(file: Catalogue) -> Plan:
    """What a planner makes that starts with a file."""
    budgets = file.budgets(np.array([0.5, 0.5]), np.array([1e-3, 2e-3]))
    planner = Planner(
        PlanningSettings(100), file.names, budgets, list_prices=CatalogueVersion(0, file).list_prices
    )
    return planner.start_period()


def test_a_version_carries_the_prices_that_the_history_was_priced_by():
    version = CatalogueVersion(3, DOUBLED, listed(catalogue()))
    again = CatalogueVersion.decode(version.encode())
    assert again == version
    assert again.list_prices == PriceChange(listed(DOUBLED), {"a": [1.0, 2.0], "b": [3, None]})


def test_a_version_that_an_older_router_published_is_read():
    value = orjson.dumps({"version": 3, "catalogue": DOUBLED.to_dict()})
    version = CatalogueVersion.decode(value)
    assert version == CatalogueVersion(3, DOUBLED)
    assert version.encode() == value


@pytest.mark.parametrize("file", [catalogue(), DOUBLED], ids=["first", "edited"])
def test_what_another_version_is_relative_to_does_not_depend_on_the_file(file: Catalogue):
    first = listed(catalogue())
    plan = plan_of(catalogue())
    assert history_prices(CatalogueVersion(0, as_planned(file, plan)), plan, file) == first
    # published by an older router, and taken up by a planner that knows better
    assert history_prices(CatalogueVersion(1, DOUBLED), plan, file) == first
    assert history_prices(CatalogueVersion(2, DOUBLED, first), None, file) == first


def test_without_a_plan_it_is_the_file():
    assert history_prices(CatalogueVersion(0, DOUBLED), None, DOUBLED) == listed(DOUBLED)


@pytest.mark.parametrize(
    ("edited", "change"),
    [
        (catalogue(), []),
        (DOUBLED, ["a: input_price 1 -> 2", "a: output_price 2 -> 4"]),
        (catalogue(budget_usd=0.2), ["a: budget_usd 0.1 -> 0.2"]),
        (Catalogue.from_dict({"models": MODELS[1:]}), ["a: removed"]),
    ],
)
def test_a_file_that_was_edited_since_is_told_from_what_workers_started_with(
    edited: Catalogue, change: list[str]
):
    in_force = as_planned(edited, plan_of(catalogue()))
    assert list(map(str, differences(in_force, edited))) == change


@pytest.mark.parametrize(("total", "change"), [(5.0, []), (7.0, ["all: budget_usd 5 -> 7"])])
def test_a_total_that_was_edited_is_told_as_well(total: float, change: list[str]):
    def split(amount: float) -> Catalogue:
        return Catalogue.from_dict({"budget_usd": amount, "models": ["a", {"name": "b", "input_price": 3}]})

    in_force = as_planned(split(total), plan_of(split(5.0)))
    assert list(map(str, differences(in_force, split(total)))) == change


@pytest.fixture
def reader(tmp_path: Path) -> Callable[[Catalogue], CatalogueReader]:
    """Of a worker that starts with a file."""

    def make(file: Catalogue) -> CatalogueReader:
        path = tmp_path / "catalogue.yaml"
        path.write_text(yaml.safe_dump(file.to_dict()))
        return CatalogueReader(
            Settings(catalogue=path, bootstrap_servers="nobody:9092"), lambda version: None
        )

    return make


def test_a_worker_says_that_its_file_is_not_what_is_in_force(
    reader: Callable[[Catalogue], CatalogueReader],
) -> None:
    assert reader(DOUBLED).compare_file(plan_of(DOUBLED)) == []
    assert len(reader(DOUBLED).compare_file(plan_of(catalogue()))) == 2
    behind = reader(catalogue())
    behind.latest = CatalogueVersion(1, DOUBLED)
    assert len(behind.compare_file(plan_of(catalogue()))) == 2
