"""The Helm chart: five sets of values are rendered, and all they name exists."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from port_router.programs import PROGRAMS
from producers.fleet.__main__ import parser as fleet_parser
from producers.fleet.activity import COUNTERS, GAUGES
from streams.config.catalogue_file import BROKER_VARIABLES, PREFIX
from streams.config.settings import Settings
from streams.kafka.strimzi import resource_name
from tests.conftest import ROOT

CHART = ROOT / "infra" / "helm" / "port-router"
EXAMPLES = sorted((ROOT / "infra" / "helm" / "examples").glob("*.yaml"))
KUBERNETES = "1.31.0"
CUSTOM = json.loads((ROOT / "tests" / "infra" / "custom_resources.json").read_text())
"""Schemas of `spec` by kind, after the documentation of KEDA, the Prometheus operator and Strimzi."""

Resource = dict[str, Any]


@pytest.fixture(scope="module")
def helm() -> str:
    built = ROOT / "build" / "helm" / "helm"
    helm_path = shutil.which("helm") or (str(built) if built.exists() else None)
    if helm_path is None:
        pytest.skip("no helm: `make helm` builds it from its Go module")
    return helm_path


@pytest.fixture(scope="module")
def strimzi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a values file with the resources that the commands print."""
    folder = tmp_path_factory.mktemp("strimzi")
    catalogue = folder / "catalogue.yaml"
    catalogue.write_text("budget_usd: 10\nmodels: [vendor/small]\n")
    program = [sys.executable, "-m", "port_router"]
    environment = {"PORT_CATALOGUE": str(catalogue)}
    documents = ""
    for command in ("topics list --format strimzi", "acls worker --format strimzi --user router"):
        done = subprocess.run(
            [*program, *command.split()],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        documents += done.stdout
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump({"strimzi": {"resources": documents}}))
    return values


@pytest.fixture(scope="module")
def rendered(helm: str, strimzi: Path) -> dict[str, list[Resource]]:
    """Give the resources of each set of values."""
    resources = {}
    for path in EXAMPLES:
        command = [helm, "template", "shop", str(CHART), "--kube-version", KUBERNETES, "--values", str(path)]
        if path.stem == "strimzi":
            command += ["--values", str(strimzi)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        resources[path.stem] = [document for document in yaml.safe_load_all(done.stdout) if document]
    return resources


def everything(rendered: dict[str, list[Resource]]) -> Iterator[Resource]:
    for resources in rendered.values():
        yield from resources


def pods(rendered: dict[str, list[Resource]]) -> Iterator[dict[str, Any]]:
    """Give the pod specifications."""
    for resource in everything(rendered):
        if resource["kind"] == "Pod":
            yield resource["spec"]
        elif "template" in resource.get("spec", {}):
            yield resource["spec"]["template"]["spec"]


def test_there_are_five_sets_of_values() -> None:
    assert [path.stem for path in EXAMPLES] == ["fleets", "minimal", "monitored", "secured", "strimzi"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_lint_finds_nothing(helm: str, strimzi: Path, path: Path) -> None:
    command = [helm, "lint", "--strict", "--kube-version", KUBERNETES, str(CHART), "--values", str(path)]
    command += ["--values", str(strimzi)] if path.stem == "strimzi" else []
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_resource_matches_its_schema(rendered: dict[str, list[Resource]]) -> None:
    kinds = set()
    for resource in everything(rendered):
        kinds.add(resource["kind"])
        if resource["kind"] in CUSTOM:
            assert set(resource) == {"apiVersion", "kind", "metadata", "spec"}
            Draft202012Validator(CUSTOM[resource["kind"]]).validate(resource["spec"])
        else:
            kubernetes_validate.validate(resource, "1.31", strict=True)
    assert kinds >= CUSTOM.keys() | {
        "StatefulSet",
        "Deployment",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
    }


def test_commands_and_their_options_exist(rendered: dict[str, list[Resource]]) -> None:
    commands = set()
    for pod in pods(rendered):
        (container,) = pod["containers"]
        if container["command"][:2] == ["python", "-c"]:
            continue
        assert container["command"][:3] == ["python", "-m", "port_router"]
        name, *rest = [*container["command"][3:], *container.get("args", [])]
        commands.add(" ".join((name, *rest[:1])) if name in ("topics", "plan") else name)
        if name == "fleet":
            fleet_parser().parse_args(rest)
        else:
            parser = argparse.ArgumentParser(exit_on_error=False)
            import_module(f"streams.commands.{name}").add_arguments(parser)
            options = parser.parse_args(rest)
            # no terminal answers a job's question
            assert getattr(options, "yes", True)
    assert commands == {"worker", "fleet", "topics create", "plan apply"}
    assert "fleet" in PROGRAMS


def test_variables_are_settings(rendered: dict[str, list[Resource]]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {*BROKER_VARIABLES, "OPENAI_API_KEY"}
    for pod in pods(rendered):
        names = [variable["name"] for variable in pod["containers"][0].get("env", [])]
        assert set(names) <= known
        assert len(names) == len(set(names))


def test_pods_are_restricted_and_outlive_their_drain(rendered: dict[str, list[Resource]]) -> None:
    for pod in pods(rendered):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        if "fleet" in container["command"]:
            drain = int(container["args"][container["args"].index("--drain-seconds") + 1])
            assert pod["terminationGracePeriodSeconds"] > drain + 15
        elif "worker" in container["command"]:
            assert pod["terminationGracePeriodSeconds"] > 45


def test_ports_of_probes_monitors_and_policies_are_served(rendered: dict[str, list[Resource]]) -> None:
    for pod in pods(rendered):
        (container,) = pod["containers"]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] in ports
                assert container[probe]["httpGet"]["path"] in ("/healthz", "/readyz")
        variables = {v["name"]: v.get("value") for v in container.get("env", [])}
        if "worker" in container["command"]:
            assert ports == {"http": int(str(variables["PORT_WEB_PORT"]))}
        if "fleet" in container["command"]:
            assert ports == {"http": int(container["args"][container["args"].index("--health-port") + 1])}


def test_scaled_objects_follow_topic_and_group_of_their_fleet(
    rendered: dict[str, list[Resource]],
) -> None:
    triggers = {
        trigger["metadata"]["topic"]: trigger["metadata"]["consumerGroup"]
        for resource in rendered["fleets"]
        if resource["kind"] == "ScaledObject"
        for trigger in resource["spec"]["triggers"]
    }
    topics = Settings(topic_prefix="shop.").topics
    assert triggers == {
        topics.llm("vendor-small"): "shop-fleet-vendor-small",
        topics.llm("local-llama_3"): "shop-fleet-local-llama_3",
    }


def test_alerts_name_metrics_of_the_fleet_that_exist(rendered: dict[str, list[Resource]]) -> None:
    (rule,) = [r for r in rendered["monitored"] if r["kind"] == "PrometheusRule"]
    text = json.dumps(rule)
    exported = {"port_fleet_" + name for name in GAUGES} | {f"port_fleet_{name}_total" for name in COUNTERS}
    named = set(re.findall(r"port_fleet_\w+", text))
    assert named <= exported
    assert "port_fleet_requests_total" in named


def test_strimzi_names_are_valid_and_distinct() -> None:
    assert resource_name("llm.a_b") != resource_name("llm.a-b")
    assert resource_name("router.ledger") == "router.ledger"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("kafka: {bootstrapServers: ''}", "kafka.bootstrapServers: set the brokers"),
        ("router: {replica: 3}", "replica"),
        ("router: {drainSeconds: 5}", "drainSeconds"),
        ("fleets: {small: {llm: vendor/small}}", "baseUrl"),
        ("settings: {Partitions: 3}", "Partitions"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: str, tmp_path: Path, values: str, message: str) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(values)
    minimal = ROOT / "infra" / "helm" / "examples" / "minimal.yaml"
    command = [helm, "template", "shop", str(CHART), "--kube-version", KUBERNETES]
    done = subprocess.run(
        [*command, "--values", str(minimal), "--values", str(path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert message in done.stderr
