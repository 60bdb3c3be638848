"""The broker of docker-compose.yml, run by Docker Compose."""

import os
import shutil
import subprocess
from dataclasses import replace

import yaml

from infra.broker.errors import BrokerError, MissingToolError
from infra.broker.kind import BrokerKind
from infra.broker.ports import free_ports
from infra.broker.processes import ProcessId
from infra.broker.readiness import count_brokers, wait_until_answers
from infra.broker.state_file import ROOT, BrokerState, delete_files

COMPOSE_FILE = ROOT / "docker-compose.yml"
SERVICE = "kafka"
MAX_QUOTED = 2000
"""Characters of Docker's output that an error message quotes."""


def require_docker() -> None:
    """Check that `docker compose` can be used.

    Raises
    ------
    MissingToolError
        The client, its compose plugin or a reachable engine is missing; the message says which.
    """
    other = "or use --kind native or --kind embedded"
    if shutil.which("docker") is None:
        raise MissingToolError(
            f"no `docker` on the PATH: install Docker Engine with its compose plugin, {other}"
        )
    if _docker("compose", "version").returncode != 0:
        raise MissingToolError(
            f"`docker compose` does not work: install Docker's compose plugin (version 2), {other}"
        )
    engine = _docker("info", "--format", "{{.ServerVersion}}")
    if engine.returncode != 0:
        raise MissingToolError(
            f"no Docker engine answers ({engine.stderr.strip()}): start one, or allow this user to reach it, "
            f"{other}"
        )


def require_image() -> None:
    """Check that the image of the compose file's broker is on this machine; pull it if not.

    Raises
    ------
    MissingToolError
        The image cannot be pulled.
    """
    image = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))["services"][SERVICE]["image"]
    if _docker("image", "inspect", "--format", "{{.Id}}", image).returncode == 0:
        return
    pulled = _docker("pull", "--quiet", image)
    if pulled.returncode != 0:
        raise MissingToolError(
            f"Docker cannot pull the image {image} ({pulled.stderr.strip()[-500:]}): pull it where its "
            "registry can be reached, or use --kind native or --kind embedded"
        )


class DockerBroker(BrokerKind):
    """The broker of docker-compose.yml; the compose project is `port-NAME`."""

    name = "docker"

    def start(self, name: str, brokers: int = 1, *, owner: ProcessId | None = None) -> BrokerState:
        """Start the container on a free port of 127.0.0.1. It outlives `owner`; `remove` ends it."""
        require_docker()
        state = BrokerState(name, self.name, f"127.0.0.1:{free_ports(1)[0]}")
        state.save()
        try:
            self.resume(state)
        except BaseException:
            self.remove(state)
            raise
        return state

    def resume(self, state: BrokerState) -> None:
        """Start the container on the same port and data."""
        port = state.bootstrap_servers.rpartition(":")[2]
        up = _compose(state.name, "up", "--detach", "--wait", SERVICE, environment={"KAFKA_PORT": port})
        if up.returncode != 0:
            raise BrokerError(f"docker compose could not start the broker:\n{up.stderr[-MAX_QUOTED:]}")
        wait_until_answers(state.bootstrap_servers)
        replace(state, stopped=False).save()

    def stop(self, state: BrokerState) -> None:
        """Stop the container and keep its data."""
        stopped = _compose(state.name, "stop", "--timeout", "30", SERVICE, environment={})
        if stopped.returncode != 0:
            raise BrokerError(
                f"docker compose could not stop the broker {state.name}:\n{stopped.stderr[-MAX_QUOTED:]}"
            )
        replace(state, stopped=True).save()

    def remove(self, state: BrokerState) -> None:
        """Stop the container and delete its data."""
        down = _compose(state.name, "down", "--volumes", "--timeout", "10", environment={})
        if down.returncode != 0:
            raise BrokerError(
                f"docker compose could not stop the broker {state.name}:\n{down.stderr[-MAX_QUOTED:]}"
            )
        delete_files(state.name)

    def running(self, state: BrokerState) -> bool:
        """Return whether the broker answers; Docker manages its processes."""
        return count_brokers(state.bootstrap_servers) > 0


def _compose(name: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return _docker(
        "compose", "--project-name", f"port-{name}", "--file", str(COMPOSE_FILE), *arguments, **environment
    )


def _docker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # The timeout allows for pulling an image.
    return subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
