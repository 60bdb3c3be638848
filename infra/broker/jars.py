"""The jars of Apache Kafka, which Maven brings, and the Java that runs them."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from infra.broker.errors import BrokerError, MissingToolError
from infra.broker.record import ROOT

POM = ROOT / "infra" / "kafka" / "pom.xml"
LOG_SETTINGS = ROOT / "infra" / "kafka" / "log4j2.xml"
JARS = ROOT / "build" / "kafka"
OLDEST_JAVA = 17


def java() -> str:
    """Find a Java that Apache Kafka's brokers run on.

    Returns
    -------
    str
        Path of the program: that of `JAVA_HOME` where it is set, else the first on the PATH.

    Raises
    ------
    MissingToolError
        When there is none, or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(str(Path(home, "bin", "java"))) if home else shutil.which("java")
    how = (
        f"native Apache Kafka needs Java {OLDEST_JAVA} or newer "
        "(Debian: apt-get install openjdk-17-jre-headless), or take --kind docker or --kind embedded"
    )
    if found is None:
        raise MissingToolError(f"no Java {f'in JAVA_HOME={home}' if home else 'on the PATH'}: {how}")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version.group(1)) < OLDEST_JAVA:
        raise MissingToolError(
            f"{found} is Java {version.group(1) if version else 'of an unknown version'}: {how}"
        )
    return found


def kafka_jars() -> Path:
    """Give the folder with the jars of infra/kafka/pom.xml; Maven fetches them the first time.

    Returns
    -------
    Path
        A folder under build/kafka/ named by the pom's digest, so a changed pom is fetched anew.

    Raises
    ------
    MissingToolError
        When they must be fetched and there is no Maven.
    BrokerError
        When Maven cannot fetch them.
    """
    folder = JARS / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(
            "no Maven (`mvn`) on the PATH, which brings Apache Kafka's jars "
            "(Debian: apt-get install maven), or take --kind docker or --kind embedded"
        )
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want them at once
        if not folder.is_dir():
            _fetch(maven, folder)
    return folder


def _fetch(maven: str, folder: Path) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    command = [maven, "--batch-mode", "--quiet", "--strict-checksums", "--file", str(POM)]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={part}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        raise BrokerError(
            "Maven has not fetched Apache Kafka's jars in 10 minutes; check its proxy settings"
        ) from None
    if done.returncode != 0 or not any(part.glob("kafka_*.jar")):
        raise BrokerError(
            f"Maven could not fetch Apache Kafka's jars:\n{(done.stdout + done.stderr)[-2000:]}"
        )
    part.rename(folder)
