"""The chart's copies of files from elsewhere: a chart reads no others, and links do not survive archives."""

import pytest

from tests.conftest import ROOT

COPIES = {"alerts.yml": "prometheus/alerts.yml", "router.json": "grafana/dashboards/router.json"}


@pytest.mark.parametrize(("copy", "original"), COPIES.items())
def test_chart_file_equals_its_original(copy: str, original: str):
    chart = ROOT / "infra" / "helm" / "port-router" / "files" / copy
    source = ROOT / "infra" / original

    assert not chart.is_symlink()
    assert chart.read_bytes() == source.read_bytes(), (
        f"cp {source.relative_to(ROOT)} {chart.relative_to(ROOT)}"
    )


def test_chart_has_no_other_files():
    folder = ROOT / "infra" / "helm" / "port-router" / "files"
    assert {path.name for path in folder.iterdir()} == COPIES.keys()
