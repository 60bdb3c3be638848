"""`python -m infra.broker`: brokers that stay until `down`, found again by name."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker.errors import MissingToolError
from infra.broker.kafka_jars import java, kafka_jars
from infra.broker.state_file import folder_of, load_state
from tests.conftest import ROOT
from tests.read_topics import read_to_end
from tests.require_broker import no_broker

Command = Callable[..., subprocess.CompletedProcess[str]]
SILENT_ADDRESS = "127.0.0.1:9"  # the discard service's port: nothing answers Kafka's protocol there


@pytest.fixture
def name(unique) -> Iterator[str]:
    chosen = unique("cli")
    yield chosen
    broker("down", "--name", chosen)
    assert not folder_of(chosen).exists()


@pytest.fixture
def native() -> None:
    try:
        java(), kafka_jars()
    except MissingToolError as error:
        no_broker(error)


def broker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key != "KAFKA_BOOTSTRAP_SERVERS"}
    command = [sys.executable, "-m", "infra.broker", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def address_of(up: subprocess.CompletedProcess[str]) -> str:
    assert up.returncode == 0, up.stderr
    variable, _, servers = up.stdout.strip().partition("=")
    assert variable == "KAFKA_BOOTSTRAP_SERVERS"
    return servers


def test_main_native_broker_from_up_to_down(native: None, name: str) -> None:
    servers = address_of(broker("up", "--name", name))
    assert address_of(broker("up", "--name", name)) == servers

    status = broker("status", "--name", name)
    assert (status.returncode, status.stdout.split()) == (0, [name, "native", servers, "1", "in", "service"])

    other_kind = broker("up", "--name", name, "--kind", "embedded")
    assert other_kind.returncode == 1
    assert f"broker {name} runs already" in other_kind.stderr

    record = load_state(name)
    assert record is not None
    assert record.owner is None
    record.processes[0].send(signal.SIGKILL)
    record.processes[0].kill()
    status = broker("status", "--name", name)
    assert status.returncode == 1
    assert "1 of 1 ended" in status.stdout

    again = address_of(broker("up", "--name", name))
    assert again != servers
    second = load_state(name)
    assert second is not None
    assert broker("down", "--name", name).stdout == f"{name}: stopped (native)\n"
    assert not second.processes[0].alive
    assert broker("down", "--name", name).stdout == f"{name}: nothing to stop\n"


def test_main_native_broker_restarted_keeps_its_data(native: None, name: str) -> None:
    servers = address_of(broker("up", "--name", name))
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(30)
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    producer.produce("kept", b"before")
    assert producer.flush(30) == 0
    first = load_state(name)
    assert first is not None

    stopped = broker("stop", "--name", name)
    assert (stopped.returncode, stopped.stdout) == (0, f"{name}: stopped (native); its data is kept\n")
    assert not first.processes[0].alive
    status = broker("status", "--name", name)
    assert status.returncode == 1
    assert "stopped; `start` starts it with its data" in status.stdout
    # `up` deletes what is left of a broker that crashed, and must not delete this
    assert address_of(broker("up", "--name", name)) == servers

    restarted = broker("restart", "--name", name, "--pause", "0.1")
    assert restarted.returncode == 0, restarted.stderr
    assert restarted.stdout.endswith(f"{name}: in service (native) at {servers}\n")

    second = load_state(name)
    assert second is not None
    second.processes[0].kill()
    assert broker("start", "--name", name).returncode == 0
    assert [record.value() for record in read_to_end(servers, ["kept"], timeout=30)] == [b"before"]


def test_main_embedded_broker_stop_is_rejected(name: str) -> None:
    servers = address_of(broker("up", "--name", name, "--kind", "embedded"))
    for command in ("stop", "start", "restart"):
        refused = broker(command, "--name", name)
        assert refused.returncode == 1
        assert "has its data in memory only" in refused.stderr
    assert broker("status", "--name", name).returncode == 0, servers


def test_main_embedded_broker_stores_records(name: str) -> None:
    servers = address_of(broker("up", "--name", name, "--kind", "embedded"))
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic("smoke", 2, 1)])["smoke"].result(30)
    producer = Producer({"bootstrap.servers": servers, "transactional.id": "smoke"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(10):
        producer.produce("smoke", b"%d" % number, partition=number % 2)
    producer.commit_transaction(30)
    values = sorted(int(record.value()) for record in read_to_end(servers, ["smoke"], timeout=30))
    assert values == list(range(10))


def test_main_external_broker_is_used(bootstrap_servers: str) -> None:
    up = broker("up", KAFKA_BOOTSTRAP_SERVERS=bootstrap_servers)
    assert address_of(up) == bootstrap_servers
    status = broker("status", KAFKA_BOOTSTRAP_SERVERS=bootstrap_servers)
    assert status.returncode == 0
    assert status.stdout.splitlines()[0].split()[:3] == ["given", "given", bootstrap_servers]


def test_main_external_broker_silent_is_reported() -> None:
    up = broker("up", KAFKA_BOOTSTRAP_SERVERS=SILENT_ADDRESS)
    assert up.returncode == 1
    assert f"KAFKA_BOOTSTRAP_SERVERS={SILENT_ADDRESS} does not answer" in up.stderr
    assert up.stdout == ""


def test_main_status_without_brokers_fails(unique) -> None:
    status = broker("status", "--name", unique("nobody"))
    assert status.returncode == 1
    assert "no broker named" in status.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["up", "--kind", "embedded", "--brokers", "3"], "brokers 3: kind embedded supports 1"),
        (["stop", "--name", "never-started"], "no broker named never-started was started here"),
        (["up", "--name", "No/Folder"], "name 'No/Folder': use lower-case letters"),
    ],
)
def test_main_invalid_arguments_are_reported(arguments: list[str], message: str) -> None:
    done = broker(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
