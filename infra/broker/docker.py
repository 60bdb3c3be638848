"""The broker of docker-compose.yml, where a Docker engine answers."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from infra.broker.errors import BrokerError, MissingToolError
from infra.broker.ports import free_ports
from infra.broker.ready import wait_until_answers
from infra.broker.record import ROOT, Record, forget

COMPOSE_FILE = ROOT / "docker-compose.yml"
SERVICE = "kafka"


def require_docker() -> None:
    """Return when `docker compose` can be used.

    Raises
    ------
    MissingToolError
        When the client, its compose plugin, or an engine that answers is missing; the message says which.
    """
    other = "or take --kind native or --kind embedded"
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
            f"no Docker engine answers ({engine.stderr.strip()}): start it, or let this user reach it, "
            f"{other}"
        )


def require_image() -> None:
    """Return when the compose file's broker is on this machine, or could be brought.

    Raises
    ------
    MissingToolError
        When it cannot be brought.
    """
    image = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))["services"][SERVICE]["image"]
    if _docker("image", "inspect", "--format", "{{.Id}}", image).returncode == 0:
        return
    pulled = _docker("pull", "--quiet", image)
    if pulled.returncode != 0:
        raise MissingToolError(
            f"Docker cannot bring the image {image} ({pulled.stderr.strip()[-500:]}): pull it where its "
            "registry can be reached, or take --kind native or --kind embedded"
        )


def start_docker(name: str) -> Record:
    """Start the compose file's broker under a name and wait until it answers.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout; the compose project is `port-NAME`.

    Returns
    -------
    Record
        The broker, answering on a free port of 127.0.0.1. It stays until `stop_docker`.

    Raises
    ------
    MissingToolError
        When Docker cannot be used here.
    BrokerError
        When the container does not come up.
    """
    require_docker()
    port = free_ports(1)[0]
    record = Record(name, "docker", f"127.0.0.1:{port}")
    record.save()
    up = _compose(name, "up", "--detach", "--wait", SERVICE, environment={"KAFKA_PORT": str(port)})
    try:
        if up.returncode != 0:
            raise BrokerError(f"docker compose could not start the broker:\n{up.stderr[-2000:]}")
        wait_until_answers(record.bootstrap_servers)
    except BaseException:
        stop_docker(name)
        raise
    return record


@contextmanager
def docker_broker() -> Iterator[Record]:
    """Run the compose file's broker for the length of a `with` block.

    Yields
    ------
    Record
        The broker, answering at its `bootstrap_servers`.
    """
    record = start_docker(f"docker-{os.getpid()}-{secrets.token_hex(3)}")
    try:
        yield record
    finally:
        stop_docker(record.name)


def stop_docker(name: str) -> None:
    """Stop a broker that `start_docker` started, and delete its data."""
    down = _compose(name, "down", "--volumes", "--timeout", "10", environment={})
    if down.returncode != 0:
        raise BrokerError(f"docker compose could not stop the broker {name}:\n{down.stderr[-2000:]}")
    forget(name)


def _compose(name: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return _docker(
        "compose", "--project-name", f"port-{name}", "--file", str(COMPOSE_FILE), *arguments, **environment
    )


def _docker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Pulling an image takes minutes; asking the engine does not.
    return subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
