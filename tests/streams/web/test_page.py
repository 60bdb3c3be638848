"""The page in a headless Chromium."""

import asyncio
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.streams.web.conftest import made_up_state

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PANELS = (
    "figures",
    "budgets",
    "burn",
    "burn-key",
    "share",
    "rate",
    "latency",
    "quality",
    "lanes-note",
    "prices",
    "plans",
    "letters",
    "workers",
)

FAINT = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const linear = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const color = parse(getComputedStyle(node).backgroundColor);
    if (color.length < 4 || color[3] > .99) return color;
  }
  return [255, 255, 255];
};
const contrast = (node) => {
  const style = getComputedStyle(node);
  const own = light(parse(node.tagName === 'text' ? style.fill : style.color));
  const other = light(behind(node.closest('svg')?.parentElement ?? node));
  return (Math.max(own, other) + .05) / (Math.min(own, other) + .05);
};
return [...document.querySelectorAll('h1,h2,p,td,th,dt,dd,li,button,small,b,summary,text')]
  .filter((node) => node.textContent.trim() && node.getBoundingClientRect().width)
  .map((node) => [contrast(node), node.tagName + ': ' + node.textContent.trim().slice(0, 40)])
  .filter(([ratio]) => ratio < 4.5);
"""
"""Texts whose contrast is below what WCAG AA asks for."""

SMALL = """
return [...document.querySelectorAll('svg text')].filter((t) => t.getBoundingClientRect().height < 8).length
"""


def opened(driver: Any, url: str) -> None:
    driver.get(url)
    WebDriverWait(driver, 30).until(lambda d: d.execute_script("return document.body.dataset.drawn"))


def text_of(driver: Any, identity: str) -> str:
    return str(driver.find_element(By.ID, identity).text)


async def in_browser(look: Any, *arguments: Any) -> None:
    """The browser's driver blocks, and the server is in this loop."""
    await asyncio.get_running_loop().run_in_executor(None, look, *arguments)


async def test_page_draws_all_panels_without_errors(serve: Any, browse: Any):
    url = (await serve()).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            for panel in PANELS:
                assert text_of(driver, panel).strip(), panel
            budgets = text_of(driver, "budgets")
            for shown in ("vendor/large", "$20.00", "$14.00", "$2.00", "−33.3 %"):
                assert shown in budgets
            assert "41" in text_of(driver, "figures")
            assert "made-up" in driver.title
            assert "silent for 1 min 30 s" in text_of(driver, "workers")
            assert len(driver.find_elements(By.CSS_SELECTOR, "#share path")) >= 3
            assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []

    await in_browser(look)


async def test_page_with_a_problem_shows_a_banner(serve: Any, browse: Any):
    state = made_up_state()
    url = (await serve(state=lambda: state)).url
    unreadable = {"name": "partitions readable", "ok": False, "detail": "queries:1 offsets 40 to 43 <b>x</b>"}

    def shown(driver: Any, *texts: str) -> None:
        WebDriverWait(driver, 20).until(lambda d: all(text in text_of(d, "banner") for text in texts))

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            assert not driver.find_element(By.ID, "banner").is_displayed()
            state["broker_away_since"] = state["now"] - 75
            shown(driver, "No Kafka broker has answered since", "1 min 15 s", "No query is routed")
            state["broker_away_since"] = None
            state["ready"] = {"ok": False, "checks": [unreadable]}
            shown(driver, "A partition cannot be read: queries:1 offsets 40 to 43 <b>x</b>")
            state["ready"] = {"ok": True, "checks": []}
            WebDriverWait(driver, 20).until(lambda d: not d.find_element(By.ID, "banner").is_displayed())

    await in_browser(look)


async def test_page_explains_a_query_and_escapes_its_text(serve: Any, browse: Any):
    url = (await serve()).url

    def look() -> None:
        with browse() as driver:
            opened(driver, url)
            field = driver.find_element(By.ID, "query-id")
            field.send_keys("q-1")
            field.submit()
            WebDriverWait(driver, 20).until(lambda d: "Went to small" in text_of(d, "explained"))
            text = text_of(driver, "explained")
            for shown in (
                "7 of period 3",
                "the same",
                "0.91",
                "(+25 %)",
                "not worth it",
                "$0.800000",
                "cannot pay: team=search",
                "$0.125000",
            ):
                assert shown in text
            # the answer first, then what led to it, and the history last and once
            places = [text.index(part) for part in ("Went to small", "Before that", "Was passed", "0.910")]
            assert places == sorted(places)
            assert text.count("nearest answered quer") == 1
            driver.find_element(By.CSS_SELECTOR, "#explained summary").click()
            assert "<script>" in text_of(driver, "explained")
            assert "<b>send a text</b>" in text_of(driver, "letters")
            assert driver.title != "broken"
            field.clear()
            field.send_keys("nobody")
            field.submit()
            WebDriverWait(driver, 20).until(lambda d: "is on no topic" in text_of(d, "explained"))

    await in_browser(look)


async def test_page_with_a_stray_percent_sign_in_its_address_is_drawn(serve: Any, browse: Any):
    url = (await serve()).url

    def look() -> None:
        with browse() as driver:
            opened(driver, f"{url}/#query=50%")
            WebDriverWait(driver, 20).until(lambda d: "'50%' is on no topic" in text_of(d, "explained"))
            assert text_of(driver, "budgets").strip()

    await in_browser(look)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_page_fits_the_window_and_is_readable(serve: Any, browse: Any, width: int, dark: bool):
    url = (await serve()).url

    def look() -> None:
        with browse(width, 800, dark) as driver:
            opened(driver, url)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert driver.execute_script(FAINT) == []
            paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (paper == "rgb(17, 20, 22)") == dark
            assert driver.execute_script(SMALL) == 0
            driver.execute_script("document.body.style.setProperty('--quiet', '#999999')")
            assert driver.execute_script(FAINT) != [] or dark  # the measure has teeth

    await in_browser(look)


async def test_page_without_the_token_shows_the_login_form(serve: Any, browse: Any):
    url = (await serve(web_token="let me in")).url

    def look() -> None:
        with browse() as driver:
            driver.get(url)
            driver.find_element(By.ID, "token").send_keys("let me in")
            driver.find_element(By.CSS_SELECTOR, "button").click()
            WebDriverWait(driver, 30).until(lambda d: d.execute_script("return document.body.dataset.drawn"))
            assert "let" not in driver.current_url

    await in_browser(look)
