"""The broker of the tests themselves: skipped without one, failed in CI, native where Docker has no image."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.broker.errors import MissingToolError
from infra.broker.kafka_jars import java, kafka_jars
from tests.conftest import ROOT
from tests.require_broker import no_broker

NEEDS_A_BROKER = "tests/streams/kafka/test_topics.py::test_create_topics_creates_only_missing_ones"
ENGINE_WITHOUT_IMAGE = '#!/bin/sh\n[ "$1" = image ] && exit 1\n[ "$1" = pull ] && exit 1\nexit 0\n'


def suite(path: str, **variables: str) -> tuple[int, str]:
    """Run one test that needs a broker, with the programs of a PATH."""
    others = ("KAFKA_BOOTSTRAP_SERVERS", "CI", "JAVA_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in others}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", NEEDS_A_BROKER],
        cwd=ROOT,
        env={**environment, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.timeout(300)
def test_fixture_no_broker_skips_but_fails_in_ci(tmp_path: Path) -> None:
    status, printed = suite(str(tmp_path))
    assert (status, "1 skipped" in printed) == (0, True), printed
    assert "no Java on the PATH" in printed
    assert "no `docker` on the PATH" in printed

    status, printed = suite(str(tmp_path), CI="true")
    assert status == 1, printed
    assert "no Kafka for this test" in printed
    assert "skipped" not in printed


@pytest.mark.timeout(300)
def test_fixture_docker_image_missing_uses_native(tmp_path: Path) -> None:
    try:
        java(), kafka_jars()
    except MissingToolError as error:
        no_broker(error)
    (tmp_path / "docker").write_text(ENGINE_WITHOUT_IMAGE)
    (tmp_path / "docker").chmod(0o755)

    status, printed = suite(f"{tmp_path}{os.pathsep}{os.environ['PATH']}", CI="true")

    assert (status, "1 passed" in printed) == (0, True), printed


def test_ci_workflow_sets_the_ci_variable() -> None:
    assert "export CI=true\n" in (ROOT / ".ci" / "run").read_text()
