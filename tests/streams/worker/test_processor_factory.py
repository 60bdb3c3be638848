"""Creation of lane processors."""

from types import SimpleNamespace
from typing import Any

import pytest

from routing.budgets.catalogue import Catalogue
from streams.config.settings import Settings
from streams.planner.planner import PlannerProcessor
from streams.router.charges import charge_estimates
from streams.router.router import RouterProcessor, WorkerContext
from streams.worker.processor_factory import ProcessorFactory, make_charger


def catalogue_of(*models: dict[str, Any]) -> Any:
    """Return a stand-in of a catalogue reader with these LLMs in force."""
    catalogue = Catalogue.from_dict({"models": [{"budget_usd": 1.0, **model} for model in models]})
    return SimpleNamespace(latest=SimpleNamespace(catalogue=catalogue), prices=lambda plan: {})


NONE: Any = None
"""Estimation, which only quantiles need."""


def test_make_charger_with_estimates_needs_no_prices():
    assert make_charger(Settings(reserve="estimate"), catalogue_of({"name": "a"}), NONE) is charge_estimates


def test_make_charger_with_bounds_and_missing_prices_raises():
    with pytest.raises(ValueError, match="needs input_price and output_price of a"):
        make_charger(Settings(reserve="bound"), catalogue_of({"name": "a"}), NONE)


def test_create_returns_the_processor_of_each_input():
    settings = Settings(partitions=2)
    context = WorkerContext(
        settings,
        catalogue_of({"name": "a"}),
        charge_estimates,
        *(SimpleNamespace() for _ in range(5)),  # type: ignore[arg-type]
        on_record=lambda record: None,
        access=SimpleNamespace(),  # type: ignore[arg-type]
    )
    estimation: Any = SimpleNamespace(
        embedder=None, dimension=2, models=("a",), estimator=SimpleNamespace(models=("a",)), clusters=None
    )
    factory = ProcessorFactory(context, estimation, SimpleNamespace(), overflow=True)  # type: ignore[arg-type]
    topics = settings.topics

    lane, pool = factory.create(topics.queries, 1), factory.create(topics.overflow, 0)

    assert isinstance(lane, RouterProcessor)
    assert lane.lane == 1
    assert isinstance(pool, RouterProcessor)
    assert pool.lane == 2
    assert isinstance(factory.create(topics.samples, 0), PlannerProcessor)
