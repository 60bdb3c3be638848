"""The documentation site builds without a warning, and the README stays short."""

import os
import re
import subprocess
import sys

import pytest

from streams.messages.rejection import reason_table
from tests.conftest import ROOT

MAX_README_LINES = 150


def test_site_built_strictly_has_no_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", "build/site-of-tests"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    assert (ROOT / "build" / "site-of-tests" / "quickstart" / "index.html").exists()


def test_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_dead_letters_page_has_the_table_of_reasons() -> None:
    page = (ROOT / "docs" / "dead-letters.md").read_text()
    assert reason_table() in page, "put the output of `streams.messages.rejection.reason_table` there"


def changes() -> dict[str, str]:
    """Return the table "Where would I change ..." of docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("## Where would I change")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| (?!change|---)(.+?) \| (.+) \|$", table, re.MULTILINE))


@pytest.mark.parametrize(
    "subject",
    [
        "estimator",
        "policy",
        "reason to reject a query",
        "metric",
        "broker kind",
        "field of a message",
        "budget split",
        "rule for periods",
        "data set",
        "plot",
        "panel of the page",
        "settle rule",
        "scope of a budget",
    ],
)
def test_place_of_each_expected_change_is_named(subject: str) -> None:
    assert len([change for change in changes() if subject in change]) == 1


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`((?:[\w-]+/)+(?:[\w-]+\.\w+)?)`", (ROOT / page).read_text())
    folders = (ROOT, ROOT / "streams", ROOT / "routing")
    assert len(named) > 10
    missing = [name for name in named if not any((folder / name).exists() for folder in folders)]
    assert [name for name in missing if "NAME" not in name] == []
