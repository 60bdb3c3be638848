"""Shared and grouped budgets on the page, in a headless Chromium."""

from dataclasses import asdict
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from streams.operations.period_bills import bill_of
from streams.planner.bill_updates import BillUpdates
from streams.telemetry.cluster_summary import summarise_cluster
from streams.telemetry.timeline import point
from tests.streams.sample_cluster import make_shared_ledgers, make_shared_plan
from tests.streams.web.conftest import NOW, made_up_state
from tests.streams.web.test_page import FAINT, SMALL, in_browser, opened, text_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def answers() -> dict[str, Any]:
    plan = make_shared_plan(began_at=NOW - 600, created_at=NOW - 5)
    overview = summarise_cluster(plan, make_shared_ledgers(), NOW)
    newest = point(overview, NOW - 10, 7)
    points = []
    for step in range(1, 21):
        budgets = {name: [limit, step / 20 * used] for name, (limit, used) in newest["budgets"].items()}
        points.append(
            {**newest, "at": NOW - 10 * (21 - step), "progress": 0.5 * step / 20, "budgets": budgets}
        )
    (summary,) = BillUpdates().pending(plan, make_shared_ledgers())
    return {
        "state": lambda: {**made_up_state(), "overview": asdict(overview)},
        "timeline": lambda: points,
        "periods": lambda: [bill_of(summary)],
    }


@pytest.mark.parametrize("width", [360, 1280])
async def test_page_shows_budgets_by_scope_and_finds_values(serve: Any, browse: Any, width: int) -> None:
    url = (await serve(answers())).url

    def look() -> None:
        with browse(width, 900) as driver:
            opened(driver, url)
            scopes = text_of(driver, "scopes")
            for shown in (
                "total",
                "team=search",
                "80 %",
                "$5.00",
                "few",
                "51 queries",
                "per minute",
                "more values",
            ):
                assert shown in scopes, shown
            # the burn-down names budgets and listed values; the last periods name the budgets of all queries
            key = text_of(driver, "burn-key")
            assert "team=search" in key
            assert "total" in key
            assert "all LLMs" not in key
            assert "total 68 %" in text_of(driver, "periods")
            assert "team-33" not in scopes
            driver.find_element(By.ID, "value-text").send_keys("TEAM-33")
            WebDriverWait(driver, 20).until(lambda d: "team=team-33" in text_of(d, "found-values"))
            driver.find_element(By.ID, "value-text").send_keys("-unknown")
            WebDriverWait(driver, 20).until(lambda d: "No value of team" in text_of(d, "found-values"))
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert driver.execute_script(FAINT) == []
            assert driver.execute_script(SMALL) == 0
            assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []

    await in_browser(look)


async def test_page_with_a_budget_per_llm_has_no_scopes(serve: Any, browse: Any) -> None:
    url = (await serve()).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            assert not driver.find_element(By.ID, "scopes-card").is_displayed()
            assert driver.find_element(By.ID, "budgets-title").text == "Budgets"

    await in_browser(look)
