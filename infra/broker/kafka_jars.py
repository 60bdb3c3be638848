"""The jars of Apache Kafka, fetched by Maven, and the Java that runs them."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from infra.broker.errors import BrokerError, MissingToolError
from infra.broker.state_file import ROOT

POM = ROOT / "infra" / "kafka" / "pom.xml"
LOG_SETTINGS = ROOT / "infra" / "kafka" / "log4j2.xml"
JARS = ROOT / "build" / "kafka"
MIN_JAVA_VERSION = 17
FETCH_SECONDS = 600.0


def java() -> str:
    """Return a Java that can run Apache Kafka's brokers.

    Returns
    -------
    str
        Path of the program: that of `JAVA_HOME` if set, else the first on the PATH.

    Raises
    ------
    MissingToolError
        There is no Java, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    program = shutil.which(str(Path(home, "bin", "java"))) if home else shutil.which("java")
    remedy = (
        f"native Apache Kafka needs Java {MIN_JAVA_VERSION} or newer "
        "(Debian: apt-get install openjdk-17-jre-headless), or use --kind docker or --kind embedded"
    )
    if program is None:
        raise MissingToolError(f"no Java {f'in JAVA_HOME={home}' if home else 'on the PATH'}: {remedy}")
    shown = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False)
    version = re.search(r'version "(\d+)', shown.stderr)
    if version is None or int(version.group(1)) < MIN_JAVA_VERSION:
        raise MissingToolError(
            f"{program} is Java {version.group(1) if version else 'of an unknown version'}: {remedy}"
        )
    return program


def kafka_jars() -> Path:
    """Return the folder with the jars of infra/kafka/pom.xml; Maven fetches them the first time.

    Returns
    -------
    Path
        A folder under build/kafka/, named by the digest of the pom, so a changed pom is fetched again.

    Raises
    ------
    MissingToolError
        The jars must be fetched and Maven is not installed.
    BrokerError
        Maven cannot fetch them.
    """
    folder = JARS / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(
            "no Maven (`mvn`) on the PATH to fetch Apache Kafka's jars "
            "(Debian: apt-get install maven), or use --kind docker or --kind embedded"
        )
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may fetch at the same time
        if not folder.is_dir():
            _fetch(maven, folder)
    return folder


def _fetch(maven: str, folder: Path) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    command = [maven, "--batch-mode", "--quiet", "--strict-checksums", "--file", str(POM)]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={part}"]
    try:
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BrokerError(
            f"Maven did not fetch Apache Kafka's jars within {FETCH_SECONDS:g} s; check its proxy settings"
        ) from None
    if fetched.returncode != 0 or not any(part.glob("kafka_*.jar")):
        raise BrokerError(
            f"Maven could not fetch Apache Kafka's jars:\n{(fetched.stdout + fetched.stderr)[-2000:]}"
        )
    part.rename(folder)
