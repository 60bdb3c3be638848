"""Spending on the page, in a headless Chromium."""

from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.streams.web.overspent_cluster import NAMES, overspent_answers
from tests.streams.web.test_page import FAINT, SMALL, in_browser, opened, text_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

BOXES = """
return [...document.querySelectorAll('#share path')].map((path) => {
  const box = path.getBBox();
  const stretches = path.getAttribute('d').split('Z').length - 1;
  return [path.querySelector('title').textContent, box.width, box.height, stretches];
})
"""
RATES = """
return import('/static/past.js').then(({ rates }) => rates(...arguments));
"""
STROKES = """
return [...document.querySelectorAll('#burn path')].filter((path) => path.querySelector('title'))
  .map((path) => [path.querySelector('title').textContent, path.getAttribute('stroke')])
"""


async def test_page_names_exceeded_budgets(serve: Any, browse: Any):
    url = (await serve(overspent_answers())).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            text = text_of(driver, "overspent")
            assert "This period: real spending exceeded the budget of claude-v2: 275 %" in text
            assert "Period 8: real spending exceeded the budget of gpt-4-1106-preview: 232 %" in text
            assert "2 LLMs above budget" in text_of(driver, "figures")
            note = text_of(driver, "burn-note")
            assert "2 LLMs above budget, claude-v2 at 275 %" in note
            assert "on course" not in note
            # the worst first, each with its name
            key = text_of(driver, "burn-key")
            shown = ("claude-v2", "gpt-4-1106-preview", "claude-v1", "5 other LLMs")
            places = [key.index(part) for part in shown]
            assert places == sorted(places)
            assert "275 % used" in key
            assert "12 · 11 min" in text_of(driver, "budgets")
            assert "the oldest for 11 min" in text_of(driver, "figures")

    await in_browser(look)


async def test_page_gives_the_worst_llms_colours_at_the_first_drawing(serve: Any, browse: Any):
    url = (await serve(overspent_answers())).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            strokes = dict(driver.execute_script(STROKES))
            named = [strokes[name] for name in (NAMES[1], NAMES[0], NAMES[4], NAMES[8], NAMES[7], NAMES[2])]
            assert len(set(named)) == 6
            assert "var(--other)" not in named

    await in_browser(look)


async def test_page_draws_a_burst_as_wide_as_its_duration(serve: Any, browse: Any):
    url = (await serve(overspent_answers(bursts=True))).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            boxes = driver.execute_script(BOXES)
            assert [box[0] for box in boxes][:2] == list(NAMES[:2])
            assert all(width > 100 and height > 5 for _, width, height, _ in boxes), boxes
            assert boxes[0][3] == 2

    await in_browser(look)


def at(second: float, period: int, served: float, began: float = 0.0) -> dict[str, Any]:
    return {
        "at": second,
        "period": period,
        "began_at": began,
        "models": ["m"],
        "served": [served],
        "arrived": served,
        "unserved": 0,
        "dead": 0,
    }


def ended(period: int, served: int) -> dict[str, Any]:
    return {
        "period": period,
        "llms": [{"name": "m", "served": served}],
        "queries": served,
        "unserved": 0,
        "dead": 0,
    }


@pytest.mark.parametrize(
    ("points", "bills", "served"),
    [
        ([at(10, 1, 160)], [], [160]),  # all came before the first point
        ([at(1000, 1, 160)], [], []),  # the first point is of a period that began long before
        ([at(10, 1, 5), at(20, 1, 30)], [], [5, 25]),
        # two periods ended between two points, one of them came and went
        ([at(10, 1, 5), at(20, 3, 4)], [ended(1, 40), ended(2, 50)], [5, 35 + 50 + 4]),
        ([at(10, 1, 5), at(20, 3, 4)], [], [5, 4]),
    ],
)
async def test_rates_between_points_include_all_queries(
    serve: Any, browse: Any, points: list[Any], bills: list[Any], served: list[int]
):
    url = (await serve()).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            rows = driver.execute_script(RATES, points, bills)
            assert [row["served"]["m"] for row in rows] == served

    await in_browser(look)


async def test_page_at_the_start_of_a_period_shows_the_last_one(serve: Any, browse: Any):
    url = (await serve(overspent_answers(progress=0.001))).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            assert "period 8, the last one: 1 LLM above budget" in text_of(driver, "burn-note")
            rows = [row.text for row in driver.find_elements(By.CSS_SELECTOR, "#periods tbody tr")]
            assert [row.split()[0] for row in rows] == ["9", "8", "7"]
            assert "gpt-4-1106-preview 232 %" in rows[1]

    await in_browser(look)


async def test_page_hides_empty_panels(serve: Any, browse: Any):
    url = (await serve(overspent_answers())).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            for card in ("quality-card", "letters-card"):
                assert not driver.find_element(By.ID, card).is_displayed(), card
            assert driver.find_elements(By.CSS_SELECTOR, "#lanes .lane") == []
            assert "1 lane, 7 waiting" in text_of(driver, "lanes-note")

    await in_browser(look)


async def test_page_lists_lanes_by_lag(serve: Any, browse: Any):
    answers = overspent_answers()
    state = answers["state"]()
    lane = state["lanes"][0]
    lanes = [{**lane, "lane": i, "name": str(i), "lag": lag} for i, lag in enumerate((3, 900, 20_000, None))]
    answers["state"] = lambda: {**state, "lanes": lanes}
    url = (await serve(answers)).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            tiles = [tile.text.split()[0] for tile in driver.find_elements(By.CSS_SELECTOR, "#lanes .lane")]
            assert tiles == ["2", "1"]
            assert "2 of 4 more than 500 queries behind" in text_of(driver, "lanes-note")

    await in_browser(look)


async def test_page_on_a_phone_shows_available_money_of_an_explanation(serve: Any, browse: Any):
    url = (await serve()).url

    def look() -> None:
        with browse(360, 800) as driver:
            opened(driver, f"{url}/#query=q-1")
            WebDriverWait(driver, 20).until(lambda d: "Went to small" in text_of(d, "explained"))
            cells = driver.find_elements(By.CSS_SELECTOR, "#explained td[data-label='could spend']")
            assert cells
            assert all(cell.is_displayed() for cell in cells)
            assert "$1.000000" in cells[0].text
            assert driver.execute_script("return document.documentElement.scrollWidth") <= 360

    await in_browser(look)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_page_with_overspending_fits_the_window_and_is_readable(
    serve: Any, browse: Any, width: int, dark: bool
):
    url = (await serve(overspent_answers())).url

    def look() -> None:
        with browse(width, 800, dark) as driver:
            opened(driver, url)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert driver.execute_script(FAINT) == []
            assert driver.execute_script(SMALL) == 0
            assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []

    await in_browser(look)
