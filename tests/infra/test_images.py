"""The images, built for real by buildah: a worker in a container routes the demo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from infra.broker.ports import free_ports
from infra.broker.processes import spawn
from infra.demo import environment_of_children
from tests.conftest import ROOT
from tests.end_to_end.worker_process import wait_for

pytestmark = pytest.mark.timeout(1800)

STORE = ROOT / "build" / "images"
BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
CERTIFICATES = "/etc/ssl/certs"
UID = 10001
MAX_MEGABYTES = {"router": 950, "fleet": 550}
QUERIES = 50


def buildah(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run buildah on a store of its own."""
    command = ["buildah", "--storage-driver", "vfs", "--root", STORE / "root", "--runroot", STORE / "run"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def make_base() -> None:
    """Make the Dockerfile's base from Debian's packages and tag it as that."""
    folder, archive = STORE / "base", STORE / "base.tar"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"debootstrap cannot make the base: {done.stdout[-300:]}")
    (folder / "usr" / "bin" / "python").symlink_to("python3")
    for marker in folder.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()  # the official image lets pip install into the system, too
    subprocess.run(["tar", "-C", str(folder), "-cf", str(archive), "."], check=True)
    shutil.rmtree(folder)
    container = buildah("from", "scratch").stdout.strip()
    buildah("add", "--quiet", container, archive, "/")
    buildah("config", "--cmd", "bash", container)
    buildah("commit", "--quiet", container, BASE)
    buildah("rm", container)
    archive.unlink()


@pytest.fixture(scope="module")
def build() -> Callable[[str], str]:
    """Return a function that builds a target and returns the image's name."""
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"images are built by root with {' and '.join(missing) or 'buildah'}: apt-get install")
    if buildah("inspect", "--type", "image", BASE, check=False).returncode:
        make_base()
    options = ["--isolation", "chroot", "--pull-never", "--format", "docker"]
    options += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    # how this machine reaches its package index
    if Path("/etc/pip.conf").exists():
        options += ["--volume", "/etc/pip.conf:/etc/pip.conf:ro"]
    for variable in {
        "SSL_CERT_FILE",
        "PIP_INDEX_URL",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
    } & os.environ.keys():
        options += ["--env", variable]

    def built(target: str) -> str:
        name = f"port-router-{target}"
        buildah("bud", *options, "--target", target, "--tag", name, ".")
        return name

    return built


@pytest.fixture
def container() -> Iterator[Callable[[str], str]]:
    """Return a function that makes a container of an image; all are removed afterwards."""
    containers: list[str] = []

    def make(image: str) -> str:
        containers.append(buildah("from", "--pull-never", image).stdout.strip())
        return containers[-1]

    yield make
    for name in containers:
        buildah("rm", name, check=False)


def configured(image: str) -> dict[str, object]:
    """Return the image's configuration, with its size in MB."""
    (listed,) = json.loads(buildah("images", "--json", image).stdout)
    config = json.loads(buildah("inspect", "--type", "image", image).stdout)["Docker"]["config"]
    size, unit = listed["size"].split()
    assert unit == "MB", listed["size"]
    return {**config, "megabytes": float(size)}


def program(*module: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_router_image_routes_the_demo(
    build: Callable[[str], str],
    container: Callable[[str], str],
    bootstrap_servers: str,
    tmp_path: Path,
    unique: Callable[[str], str],
) -> None:
    image = build("router")
    config = configured(image)
    assert config["User"] == str(UID)
    assert config["Healthcheck"]
    assert config["megabytes"] < MAX_MEGABYTES["router"]

    folder, name = tmp_path / "demo", unique("image")
    inside = environment_of_children(os.environ)
    program(
        "producers.prepare", "--dataset", "demo", "--preset", "fast", "--queries", str(QUERIES),
        "--out", str(folder), environment=inside,
    )  # fmt: skip
    port = str(free_ports(1)[0])
    settings = {
        "PORT_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "PORT_TOPIC_PREFIX": f"{name}.",
        "PORT_APP_ID": name,
    }
    outside = inside | settings
    program("streams", "--env-file", str(folder / "settings.env"), "topics", "create", environment=outside)

    # everything on the way must be readable to another user
    for place in (folder, *folder.parents):
        if place.is_relative_to(tmp_path.parents[1]):
            place.chmod(0o755)
    container_name = container(image)
    command = ["buildah", "--storage-driver", "vfs", "--root", str(STORE / "root")]
    command += ["--runroot", str(STORE / "run"), "run", "--isolation", "chroot"]
    command += ["--volume", f"{folder}:{folder}:ro"]
    for key, value in (settings | {"PORT_WEB_PORT": port}).items():
        command += ["--env", f"{key}={value}"]
    command += [
        container_name,
        "--",
        "python",
        "-m",
        "port_router",
        "--env-file",
        str(folder / "settings.env"),
        "worker",
    ]
    log = tmp_path / "worker.log"
    worker = spawn(command, log, environment=dict(os.environ), bound=True)
    try:
        report = tmp_path / "report.json"
        wait_for(lambda: "lanes_assigned" in log.read_text() or not worker.alive, 120, "lanes are assigned")
        assert worker.alive, log.read_text()
        program("producers.replay", str(folder), "--json", str(report), "--quiet", environment=outside)
    finally:
        worker.stop(timeout=30.0)
    routed = json.loads(report.read_text())
    assert routed["served"] + routed["unserved"] == QUERIES
    assert routed["dead"] == routed["missing"] == routed["twice"] == 0


def test_fleet_image_runs_as_its_user(build: Callable[[str], str], container: Callable[[str], str]) -> None:
    image = build("fleet")
    config = configured(image)
    assert config["User"] == str(UID)
    assert config["megabytes"] < MAX_MEGABYTES["fleet"]
    name = container(image)
    shown = buildah(
        "run", "--isolation", "chroot", name, "--", "python", "-m", "port_router", "fleet", "--help"
    )
    assert "--base-url" in shown.stdout
    version = buildah("run", "--isolation", "chroot", name, "--", "python", "-m", "port_router", "--version")
    assert version.stdout == f"port-router {metadata.version('port-router')}\n"
    code = "import os; print(os.getuid()); open('/app/x', 'w')"
    refused = buildah("run", "--isolation", "chroot", name, "--", "python", "-c", code, check=False)
    assert refused.stdout.split() == [str(UID)]
    assert "PermissionError" in refused.stderr
