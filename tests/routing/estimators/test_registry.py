"""Registry of estimators."""

import pytest

from routing.estimators.neighbours import NeighbourSettings
from routing.estimators.registry import ESTIMATORS, fit_estimator, load_estimator
from routing.estimators.ridge_settings import RidgeSettings
from routing.fitting.presets import PRESETS
from tests.routing.estimators.test_ridge import made


def test_every_preset_names_an_estimator():
    assert {preset.estimator.kind for preset in PRESETS.values()} == set(ESTIMATORS)


@pytest.mark.parametrize("settings", [NeighbourSettings(k=3), RidgeSettings(grid=((1.0, 2.0),))])
def test_load_estimator_returns_the_fitted_estimates(tmp_path, settings):
    history = made(60)
    fitted = fit_estimator(history, settings)
    fitted.save(tmp_path)
    loaded = load_estimator(tmp_path, history, settings)
    one, other = (estimator.estimate(history.batch(slice(0, 5))) for estimator in (fitted, loaded))
    assert one.quality.tolist() == other.quality.tolist()
    assert one.cost.tolist() == other.cost.tolist()
