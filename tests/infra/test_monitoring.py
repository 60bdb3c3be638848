"""Prometheus' alerts and Grafana's dashboard: what they ask for is what workers export."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.broker.docker import COMPOSE_FILE
from producers.fleet import activity as fleet
from streams.ledger.record import OUTCOME_KINDS
from streams.telemetry.metrics import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    LANE_EVENTS,
    METRIC_PREFIX,
    OUTCOMES,
    names,
)
from tests.conftest import ROOT

FOLDER = ROOT / "infra"
ALERTS = yaml.safe_load((FOLDER / "prometheus" / "alerts.yml").read_text())
CONFIG = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana" / "dashboards" / "router.json").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
TARGETS = [
    (panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
]
EXPRESSIONS = [(rule["alert"], rule["expr"]) for rule in RULES] + TARGETS
PROCESS = {"port_process_cpu_seconds_total", "port_process_resident_memory_bytes"}
LABELS = {
    **{f"{METRIC_PREFIX}{name}_total": labels for name, (_, labels) in COUNTERS.items()},
    **{f"{METRIC_PREFIX}{name}_bucket": (*labels, "le") for name, (_, labels) in HISTOGRAMS.items()},
    **{
        f"{METRIC_PREFIX}{name}_{part}": labels
        for name, (_, labels) in HISTOGRAMS.items()
        for part in ("sum", "count")
    },
    **{METRIC_PREFIX + name: labels for name, (_, labels) in GAUGES.items()},
    **{f"{fleet.PREFIX}{name}_total": ("model", *labels) for name, (_, labels) in fleet.COUNTERS.items()},
    **{fleet.PREFIX + name: ("model",) for name in fleet.GAUGES},
}
FLEET_METRICS = {name for name in LABELS if name.startswith(fleet.PREFIX)}
VALUES = {"outcome": OUTCOMES, "kind": OUTCOME_KINDS, "event": LANE_EVENTS, "result": fleet.RESULTS}


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_monitoring_series_and_labels_exist(where: str, expression: str):
    used = set(re.findall(r"\bport_[a-z0-9_]+", expression))
    assert used or where in ("WorkerDown", "NoWorkers", "WorkersMissing")
    assert used - names() - FLEET_METRICS - PROCESS == set()
    for name, selected in re.findall(r"\b(port_[a-z0-9_]+)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)\s*[=!~]+\s*"([^"]*)"', selected):
            assert label == "job" or label in LABELS[name], (name, label)
            for word in value.split("|") if label in VALUES else ():
                assert word in VALUES[label]


@pytest.mark.parametrize("where", sorted({where for where, _ in TARGETS}))
def test_dashboard_panels_select_one_router(where: str):
    for title, expression in TARGETS:
        if title == where:
            for metric, selector in re.findall(r"\b(port_[a-z0-9_]+)(\{[^}]*\})?", expression):
                job = 'job=~"$fleet"' if metric in FLEET_METRICS else 'job="$router"'
                assert job in selector, expression


def test_monitoring_uses_all_metrics_but_helpers():
    text = " ".join(expression for _, expression in EXPRESSIONS)
    unseen = {
        name for name in names() if not name.endswith(("_sum", "_count", "_bucket")) and name not in text
    }
    assert unseen == {
        "port_reservations_dollars_total",
        "port_plan_period",
        "port_plan_revision",
        "port_period_queries",
        "port_quality_error_ratio",
        "port_cost_error_ratio",
    }


def test_alerts_are_explained_in_operations():
    guide = (ROOT / "docs" / "operations.md").read_text()
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert len(rule["annotations"]["summary"]) > 20
        assert f"### {rule['alert']}\n" in guide, f"docs/operations.md does not explain {rule['alert']}"
    explained = set(re.findall(r"^### ([A-Z]\w+)$", guide, re.MULTILINE))
    assert explained == {rule["alert"] for rule in RULES}


def test_promtool_accepts_rules_configuration_and_expressions(promtool: Any, tmp_path: Path):
    checked = promtool("check", "rules", FOLDER / "prometheus" / "alerts.yml")
    assert checked.returncode == 0, checked.stderr
    checked = promtool("check", "config", "--syntax-only", FOLDER / "prometheus" / "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    rules = [
        {"record": f"panel:{i}", "expr": expression.replace("$router", "router").replace("$fleet", "fleet")}
        for i, (_, expression) in enumerate(TARGETS)
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", tmp_path / "panels.yml")
    assert checked.returncode == 0, checked.stderr


# the second file covers days, in longer steps
ALERT_TESTS = [ROOT / "tests" / "infra" / name for name in ("alerts.test.yml", "alerts.days.test.yml")]


@pytest.mark.parametrize("file", ALERT_TESTS, ids=lambda file: file.name)
def test_alerts_fire_exactly_when_expected(promtool: Any, file: Path):
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_are_all_tested():
    tried = "".join(file.read_text() for file in ALERT_TESTS)
    assert [rule["alert"] for rule in RULES if rule["alert"] not in tried] == []


def test_prometheus_configuration_finds_workers_with_token():
    (job,) = CONFIG["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    router = COMPOSE["services"]["router"]["environment"]
    assert discovery["names"] == ["router"]
    assert discovery["port"] == router["PORT_WEB_PORT"]
    assert router["PORT_WEB_HOST"] == "0.0.0.0"
    (config,) = COMPOSE["services"]["prometheus"]["configs"]
    assert config["target"] == job["authorization"]["credentials_file"]
    assert COMPOSE["configs"][config["source"]]["content"] == router["PORT_WEB_TOKEN"]
    assert CONFIG["rule_files"] == ["alerts.yml"]
    assert job["job_name"] == "router"  # what asks for `up` asks for it
    for name in ("WorkerDown", "NoWorkers", "WorkersMissing"):
        (rule,) = (rule for rule in RULES if rule["alert"] == name)
        assert set(re.findall(r"\bup\b(\{[^}]*\})?", rule["expr"])) == {'{job="router"}'}


def test_grafana_provisioning_names_existing_files():
    folder = FOLDER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "router.yml").read_text())["providers"]
    grafana = COMPOSE["services"]["grafana"]
    mounted = {volume.split(":")[1]: ROOT / volume.split(":")[0] for volume in grafana["volumes"]}
    assert source["url"] == "http://prometheus:9090"
    assert (mounted[provider["options"]["path"]] / "router.json").is_file()
    assert mounted["/etc/grafana/provisioning"] == folder
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounted[str(home.parent)] / home.name).is_file()


def test_dashboard_panels_do_not_overlap():
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel}
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert used == {source["datasources"][0]["uid"]}
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    for i, a in enumerate(places):
        assert a["x"] + a["w"] <= 24
        for b in places[i + 1 :]:
            apart = (
                a["x"] + a["w"] <= b["x"]
                or b["x"] + b["w"] <= a["x"]
                or a["y"] + a["h"] <= b["y"]
                or b["y"] + b["h"] <= a["y"]
            )
            assert apart, (a, b)
