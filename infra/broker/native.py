"""Apache Kafka as plain Java processes: one broker or three, which tests may kill, freeze and restart."""

import os
import secrets
import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from infra.broker.errors import BrokerError
from infra.broker.jars import LOG_SETTINGS, java, kafka_jars
from infra.broker.ports import free_ports
from infra.broker.processes import ProcessId, log_tail, spawn
from infra.broker.properties import Node, render, server_properties
from infra.broker.ready import wait_until_answers
from infra.broker.record import Record, end_processes, folder_of, load_all

HEAP = "512m"

COLLECTOR = (
    "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
)  # fmt: skip
"""As Kafka's own start script sets it: short pauses, for latencies' sake."""


class NativeCluster:
    """One or three Apache Kafka brokers in KRaft mode on 127.0.0.1.

    `native_cluster()` makes one that ends with its `with` block; `start_native()` one that stays.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout.
    nodes : list of Node
        The brokers' places, formatted already.
    owner : ProcessId or None
        The program that the brokers must not outlive.

    Notes
    -----
    With three brokers every topic has three replicas and needs two in sync, so any one of them may die.
    """

    def __init__(self, name: str, nodes: list[Node], owner: ProcessId | None) -> None:
        self.name = name
        self._nodes = {node.node_id: node for node in nodes}
        self._owner = owner
        self._processes: dict[int, ProcessId] = {}
        self._java, self._jars = java(), kafka_jars()

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of all brokers' open listener."""
        return self.addresses("PLAINTEXT")

    @property
    def node_ids(self) -> list[int]:
        """The brokers: 1, or 1 to 3."""
        return list(self._nodes)

    def addresses(self, listener: str) -> str:
        """Give the addresses of all brokers' listener of this name, for `bootstrap.servers`."""
        return ",".join(f"127.0.0.1:{node.ports[listener]}" for node in self._nodes.values())

    def alive(self, node_id: int) -> bool:
        """Say whether a broker's process runs; a frozen one does."""
        return node_id in self._processes and self._processes[node_id].alive

    def start(self, *node_ids: int, timeout: float = 60.0) -> None:
        """Start brokers (all when none is named) and wait until they are in service.

        Raises
        ------
        BrokerError
            When one ends or is silent; the message has the end of its log.
        """
        wanted = [self._nodes[node_id] for node_id in node_ids or self._nodes]
        for node in wanted:
            if not self.alive(node.node_id):
                self._processes[node.node_id] = spawn(
                    self._command(node), node.log, bound=self._owner is not None
                )
        self._record().save()
        try:
            wait_until_answers(
                self.bootstrap_servers,
                brokers=sum(self.alive(node_id) for node_id in self._nodes),
                timeout=timeout,
                running=lambda: all(self.alive(node.node_id) for node in wanted),
            )
        except BrokerError as error:
            logs = "\n".join(f"broker {node.node_id}:\n{log_tail(node.log)}" for node in wanted)
            raise BrokerError(f"{error}\n{logs}") from None

    def kill(self, node_id: int) -> None:
        """End a broker with SIGKILL; its data stay as they are."""
        self._processes[node_id].kill()

    def freeze(self, node_id: int) -> None:
        """Stop a broker from running, without its knowing (SIGSTOP)."""
        self._processes[node_id].send(signal.SIGSTOP)

    def thaw(self, node_id: int) -> None:
        """Let a frozen broker go on (SIGCONT)."""
        self._processes[node_id].send(signal.SIGCONT)

    def stop(self, node_id: int) -> None:
        """Shut a broker down in order: it hands its partitions over first."""
        self._processes[node_id].stop(patience=30.0)

    def restart(self, node_id: int) -> None:
        """Shut a broker down in order, unless it is dead already, and start it on the same ports and data."""
        if self.alive(node_id):
            self.stop(node_id)
        self.start(node_id)

    def close(self) -> None:
        """End all brokers and delete their data."""
        end_processes(self._record())

    def _command(self, node: Node) -> list[str]:
        options = [f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"]
        options += [*COLLECTOR, f"-Dlog4j2.configurationFile={LOG_SETTINGS}"]
        return [self._java, *options, "-cp", f"{self._jars}/*", "kafka.Kafka", str(node.settings)]

    def _record(self) -> Record:
        processes = tuple(self._processes.values())
        return Record(self.name, "native", self.bootstrap_servers, processes, self._owner)


def start_native(
    name: str,
    brokers: int = 1,
    *,
    properties: Mapping[str, str] | None = None,
    listeners: Mapping[str, str] | None = None,
    owner: ProcessId | None = None,
) -> NativeCluster:
    """Start Apache Kafka under a name and wait until all its brokers are in service.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout; its folder under build/brokers/ must not exist.
    brokers : int
        1 or 3.
    properties : mapping, optional
        Broker settings added to or replacing those of `server_properties`.
    listeners : mapping, optional
        Security protocol by name of extra listeners; see `server_properties`.
    owner : ProcessId, optional
        The program that the brokers must not outlive; without one they stay until `down`.

    Returns
    -------
    NativeCluster
        The cluster, in service.

    Raises
    ------
    MissingToolError
        When Java or Maven is not there.
    BrokerError
        When a broker does not start.
    """
    if brokers not in (1, 3):
        raise BrokerError(f"brokers {brokers}: a native cluster has 1 or 3 (two cannot outvote a dead one)")
    java(), kafka_jars()
    names = ["PLAINTEXT", "CONTROLLER", *(listeners or {})]
    ports = iter(free_ports(brokers * len(names)))
    nodes = [
        Node(node_id, folder_of(name) / f"broker-{node_id}", {listener: next(ports) for listener in names})
        for node_id in range(1, brokers + 1)
    ]
    for node in nodes:
        node.folder.mkdir(parents=True)
        node.settings.write_text(
            render(server_properties(node, nodes, listeners=listeners, extra=properties))
        )
    cluster = NativeCluster(name, nodes, owner)
    try:
        _format(nodes)
        cluster.start()
    except BaseException:
        cluster.close()
        raise
    return cluster


@contextmanager
def native_cluster(
    brokers: int = 1,
    *,
    name: str | None = None,
    properties: Mapping[str, str] | None = None,
    listeners: Mapping[str, str] | None = None,
) -> Iterator[NativeCluster]:
    """Run Apache Kafka for the length of a `with` block.

    Parameters
    ----------
    brokers, properties, listeners
        As `start_native` takes them.
    name : str, optional
        Name among the brokers of this checkout; a new one by default.

    Yields
    ------
    NativeCluster
        In service. Its brokers end with the block, and with this program, however it ends.
    """
    sweep()
    cluster = start_native(
        name or f"native-{os.getpid()}-{secrets.token_hex(3)}",
        brokers,
        properties=properties,
        listeners=listeners,
        owner=ProcessId.of(os.getpid()),
    )
    try:
        yield cluster
    finally:
        cluster.close()


def sweep() -> None:
    """End brokers whose owner has ended without stopping them, and delete their data."""
    for record in load_all():
        if record.abandoned:
            end_processes(record)


def _format(nodes: Sequence[Node]) -> None:
    """Prepare the brokers' log folders, all at once since each costs a Java start."""
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    tool = [
        java(),
        "-Xmx128m",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        f"{kafka_jars()}/*",
        "kafka.tools.StorageTool",
    ]
    running: list[subprocess.Popen[Any]] = []
    for node in nodes:
        command = [*tool, "format", f"--cluster-id={cluster_id}", "--config", str(node.settings)]
        with node.log.open("ab") as log:
            running.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
    for node, process in zip(nodes, running, strict=True):
        if process.wait(60) != 0:
            raise BrokerError(
                f"Kafka's storage tool could not format broker {node.node_id}:\n{log_tail(node.log)}"
            )
