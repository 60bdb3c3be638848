"""docker-compose.yml and the Dockerfile, as far as a machine without an engine can judge them."""

import copy
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import AdminClient, ConfigResource
from jsonschema import Draft202012Validator

from infra.broker.docker import COMPOSE_FILE, SERVICE
from port_router.__main__ import names
from routing.extras import EXTRAS
from streams.config.catalogue_file import (
    BROKER_VARIABLES,
    PREFIX,
)
from streams.config.settings import (
    Settings,
)
from streams.web.access import OPEN_PATHS
from tests.conftest import ROOT

TEXT = COMPOSE_FILE.read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VARIABLE = r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}"
# the Compose Specification's own; see NOTICE
SCHEMA = Draft202012Validator(json.loads((ROOT / "tests" / "infra" / "compose-spec.json").read_text()))


def words(service: dict[str, Any]) -> list[str]:
    """Give a service's command, that of a shell in it taken apart."""
    command = service["command"]
    return shlex.split(command[-1]) if command[:2] == ["sh", "-c"] else command


def complaints(compose: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in SCHEMA.iter_errors(compose)]


def test_compose_matches_the_specification() -> None:
    # as it is read, and with every variable at its default, as it is used
    assert complaints(COMPOSE) == []
    assert complaints(yaml.safe_load(re.sub(VARIABLE, r"\2", TEXT))) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("services", "router", "evironment"), {}),
        (("services", "router", "depends_on", "topics", "condition"), "service_finished"),
        (("services", "router", "healthcheck", "start_intervall"), "3s"),
        (("services", "grafana", "ports"), "127.0.0.1:3000:3000"),
        (("configs", "web-token", "contents"), "x"),
        (("volume",), {}),
    ],
)
def test_compose_schema_rejects_errors(path: tuple[str, ...], wrong: object) -> None:
    spoiled = copy.deepcopy(COMPOSE)
    place = spoiled
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = wrong
    assert len(complaints(spoiled)) >= 1


def test_compose_volumes_and_configs_match_their_uses() -> None:
    plain = yaml.safe_load(re.sub(VARIABLE, r"\2", TEXT))
    services = plain["services"].values()
    volumes = {volume.split(":")[0] for service in services for volume in service.get("volumes", [])}
    configs = {config["source"] for service in services for config in service.get("configs", [])}
    assert {volume for volume in volumes if "/" not in volume} == plain["volumes"].keys()
    assert configs == plain["configs"].keys()


def test_compose_is_accepted_by_docker() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no `docker` on the PATH, whose `compose config` checks the schema")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no compose plugin for `docker`, whose `compose config` checks the schema")
    command = ["docker", "compose", "--file", str(COMPOSE_FILE), "--profile", "replay", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_compose_services_start_in_order() -> None:
    assert {SERVICE, "topics", "router", "replay", "kafka-ui"} <= SERVICES.keys()
    for name, service in SERVICES.items():
        for other, dependency in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} depends on {other}"
            if dependency["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for the health of {other}"
            if dependency["condition"] == "service_completed_successfully":
                assert "restart" not in SERVICES[other], f"{name} waits for {other}, which never ends"
    assert SERVICES["topics"]["depends_on"][SERVICE]["condition"] == "service_healthy"
    assert SERVICES["router"]["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_compose_routers_can_be_scaled() -> None:
    for key in ("container_name", "hostname"):
        assert key not in SERVICES["router"], f"two routers could not both have this {key}"
    for port in SERVICES["router"]["ports"]:
        assert re.search(r":-\d+-\d+\}:\d+$", port), f"two routers could not both have this port: {port}"


@pytest.mark.parametrize("name", SERVICES)
def test_compose_images_are_pinned_and_ports_local(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z0-9/-]+:v?\d+\.\d+\.\d+", service["image"])
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []


def test_compose_health_check_needs_no_token() -> None:
    probe = " ".join(SERVICES["router"]["healthcheck"]["test"])
    match = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", probe)
    assert match is not None
    assert int(match.group(1)) == SERVICES["router"]["environment"]["PORT_WEB_PORT"]
    assert match.group(2) in OPEN_PATHS


def test_compose_variables_have_defaults_and_documentation() -> None:
    used = re.findall(VARIABLE, TEXT)
    assert used
    assert [name for name, default in used if not default] == []
    listed = re.search(r"# Variables .*: (.*)\.\n", TEXT)
    assert listed is not None
    assert set(listed.group(1).split(", ")) == {name for name, _ in used}


def test_compose_requirements_are_documented() -> None:
    uid = re.search(r"--uid (\d+)", DOCKERFILE)
    assert uid is not None
    for text in (TEXT, (ROOT / "docs" / "operations.md").read_text()):
        comment = " ".join(text.replace("#", " ").split())
        assert "Compose 2.23.1" in comment
        assert "Engine 25" in comment
        assert f"uid {uid.group(1)}" in comment


def test_compose_volumes_and_build_contexts_exist() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), f"{name}: {volume}"
        if "build" in service:
            context = ROOT / service["build"]["context"]
            assert (context / service["build"].get("dockerfile", "Dockerfile")).is_file()


@pytest.mark.parametrize("name", OURS)
def test_compose_settings_are_valid(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields} | set(BROKER_VARIABLES)
    others = {"OMP_NUM_THREADS", "DATASET"}
    assert SERVICES[name]["environment"].keys() - known - others == set()


@pytest.mark.parametrize("name", OURS)
def test_compose_commands_exist(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(SERVICES[name])
    module, *arguments = command[command.index("-m") + 1 :]
    # Asking for help proves module, sub-commands and options without running them.
    sub_commands = [word for word in arguments if not word.startswith(("-", "/", "$"))]
    usage = ""
    for command_words in ([], sub_commands):
        monkeypatch.setattr(sys, "argv", [module, *command_words, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        assert ended.value.code in (0, None)
        usage += capsys.readouterr().out
    assert [word for word in (*arguments, *sub_commands) if word.startswith("--") and word not in usage] == []


def test_compose_broker_settings_are_valid(bootstrap_servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    broker = ConfigResource(
        ConfigResource.Type.BROKER, str(next(iter(admin.list_topics(timeout=30).brokers)))
    )
    known = admin.describe_configs([broker])[broker].result(30)
    # as the image turns variables into properties: KAFKA_LOG_DIRS is log.dirs
    properties = [
        key.removeprefix("KAFKA_").lower().replace("_", ".") for key in SERVICES[SERVICE]["environment"]
    ]
    assert [key for key in properties if key not in known] == []


def test_compose_single_broker_needs_no_replicas() -> None:
    for key, value in SERVICES[SERVICE]["environment"].items():
        if key.endswith(("REPLICATION_FACTOR", "MIN_ISR")):
            assert value == 1, key


def test_dockerfile_copied_paths_exist_in_the_context() -> None:
    included = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in included, f"{source} is not let in by .dockerignore"


def test_dockerfile_uses_no_root_cpu_torch_and_pinned_versions() -> None:
    users = re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")
    assert "--torch-backend=cpu" in DOCKERFILE
    assert "--constraint constraints.txt" in DOCKERFILE
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    images = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) - stages
    assert images == {"python:3.11-slim-bookworm"}
    assert stages >= {"router", "fleet", "tools"}


def test_dockerfile_extras_and_commands_exist() -> None:
    extras = set(re.findall(r"--extra (\w+)", DOCKERFILE))
    assert extras == {"worker", "fleet", "fit", "tracing"}
    assert extras <= EXTRAS.keys()
    for line in re.findall(r"^(?:CMD|ENTRYPOINT) (\[.*\])$", DOCKERFILE, re.MULTILINE):
        assert json.loads(line)[:3] == ["python", "-m", "port_router"]
        assert json.loads(line)[3] in names()
    (health,) = re.findall(r"http://127.0.0.1:9100(/\w+)", DOCKERFILE)
    assert health == "/healthz"


def test_dockerfile_copied_packages_import_no_missing_one() -> None:
    copied = set(re.findall(r"^COPY (\w+) /app/\w+$", DOCKERFILE, re.MULTILINE))
    assert {"routing", "streams", "producers"} <= copied
    lacking = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} - copied
    for package in copied:
        for path in Path(ROOT / package).rglob("*.py"):
            imported = set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
            assert imported & lacking == set(), path
