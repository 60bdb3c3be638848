"""Recent plans of the page."""

from dataclasses import replace

import pytest

from streams.config.settings import Settings
from streams.web import recent_plans
from streams.web.recent_plans import RecentPlans
from tests.streams.sample_cluster import make_plan


@pytest.fixture
def plans() -> RecentPlans:
    return RecentPlans(Settings(bootstrap_servers="localhost:1"))


def test_by_version_with_several_revisions_keeps_the_first(plans: RecentPlans):
    plan = make_plan()
    plans.append(replace(plan, version=2, created_at=20.0))
    plans.append(replace(plan, version=1, created_at=10.0))
    plans.append(replace(plan, version=2, revision=plan.revision + 1, created_at=30.0))

    assert [(entry["version"], entry["at"]) for entry in plans.by_version()] == [(1, 10.0), (2, 20.0)]


def test_append_above_the_limit_drops_the_oldest_version(plans: RecentPlans, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recent_plans, "MAX_VERSIONS", 3)
    for version in range(5):
        plans.append(replace(make_plan(), version=version))

    assert [entry["version"] for entry in plans.by_version()] == [2, 3, 4]
