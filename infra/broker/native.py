"""Apache Kafka as plain Java processes: one broker or three, which tests can kill, freeze and restart."""

import os
import secrets
import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from infra.broker.errors import BrokerError
from infra.broker.kafka_jars import LOG_SETTINGS, java, kafka_jars
from infra.broker.kind import BrokerKind
from infra.broker.ports import free_ports
from infra.broker.processes import ProcessId, log_tail, spawn
from infra.broker.properties import Node, render, server_properties
from infra.broker.readiness import wait_until_answers
from infra.broker.state_file import BrokerState, end_abandoned, end_processes, folder_of

HEAP = "512m"
START_SECONDS = 60.0
STOP_SECONDS = 30.0

GC_OPTIONS = (
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
)
"""The options of Kafka's own start script: short pauses keep latencies low."""

JVM_VARIABLE = "KAFKA_JVM_PERFORMANCE_OPTS"
"""Environment variable whose options replace these, as in Kafka's own start script."""


class NativeCluster:
    """One or three Apache Kafka brokers in KRaft mode on 127.0.0.1.

    `native_cluster()` runs a cluster for a `with` block; `start_native()` starts one that keeps running.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout.
    nodes : list of Node
        The brokers' settings and folders; the log folders are already formatted.
    owner : ProcessId or None
        The program that the brokers must not outlive.

    Notes
    -----
    With three brokers every topic has three replicas and needs two in sync, so any one broker may die.
    """

    def __init__(self, name: str, nodes: list[Node], owner: ProcessId | None) -> None:
        self.name = name
        self._nodes = {node.node_id: node for node in nodes}
        self._owner = owner
        self._processes: dict[int, ProcessId] = {}
        self._java, self._jars = java(), kafka_jars()

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of the unsecured listener of all brokers."""
        return self.addresses("PLAINTEXT")

    @property
    def node_ids(self) -> list[int]:
        """Node ids of the brokers: 1, or 1 to 3."""
        return list(self._nodes)

    def addresses(self, listener: str) -> str:
        """Return the addresses of the named listener of all brokers, for `bootstrap.servers`."""
        return ",".join(f"127.0.0.1:{node.ports[listener]}" for node in self._nodes.values())

    def alive(self, node_id: int) -> bool:
        """Return whether a broker's process exists; a frozen one counts as alive."""
        return node_id in self._processes and self._processes[node_id].alive

    def start(self, *node_ids: int, timeout: float = START_SECONDS) -> None:
        """Start the named brokers, or all, and wait until they are in service.

        Raises
        ------
        BrokerError
            A broker ends or does not answer in time; the message quotes the end of its log.
        """
        starting = [self._nodes[node_id] for node_id in node_ids or self._nodes]
        for node in starting:
            if not self.alive(node.node_id):
                self._processes[node.node_id] = spawn(
                    self._command(node), node.log, bound=self._owner is not None
                )
        self.state().save()
        try:
            wait_until_answers(
                self.bootstrap_servers,
                brokers=sum(self.alive(node_id) for node_id in self._nodes),
                timeout=timeout,
                running=lambda: all(self.alive(node.node_id) for node in starting),
            )
        except BrokerError as error:
            logs = "\n".join(f"broker {node.node_id}:\n{log_tail(node.log)}" for node in starting)
            raise BrokerError(f"{error}\n{logs}") from None

    def adopt(self, processes: Sequence[ProcessId]) -> None:
        """Take over processes that an earlier program started, in node order."""
        self._processes = dict(zip(self._nodes, processes, strict=False))

    def kill(self, node_id: int) -> None:
        """End a broker with SIGKILL; its data is kept."""
        self._processes[node_id].kill()

    def freeze(self, node_id: int) -> None:
        """Freeze a broker (SIGSTOP); it does not notice."""
        self._processes[node_id].send(signal.SIGSTOP)

    def thaw(self, node_id: int) -> None:
        """Resume a frozen broker (SIGCONT)."""
        self._processes[node_id].send(signal.SIGCONT)

    def stop(self, node_id: int) -> None:
        """Shut a broker down in order, so that it hands its partitions over first."""
        self._processes[node_id].stop(timeout=STOP_SECONDS)

    def restart(self, node_id: int) -> None:
        """Shut a broker down in order if it is alive, then start it on the same ports and data."""
        if self.alive(node_id):
            self.stop(node_id)
        self.start(node_id)

    def close(self) -> None:
        """End all brokers and delete their data."""
        end_processes(self.state())

    def _command(self, node: Node) -> list[str]:
        options = [f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"]
        jvm_options = os.environ.get(JVM_VARIABLE)
        options += [*(GC_OPTIONS if jvm_options is None else jvm_options.split())]
        options += [f"-Dlog4j2.configurationFile={LOG_SETTINGS}"]
        return [self._java, *options, "-cp", f"{self._jars}/*", "kafka.Kafka", str(node.settings)]

    def state(self) -> BrokerState:
        """Return what the state file holds."""
        processes = tuple(self._processes.values())
        return BrokerState(self.name, "native", self.bootstrap_servers, processes, self._owner)


def start_native(
    name: str,
    brokers: int = 1,
    *,
    properties: Mapping[str, str] | None = None,
    listeners: Mapping[str, str] | None = None,
    owner: ProcessId | None = None,
) -> NativeCluster:
    """Start Apache Kafka under a name and wait until all brokers are in service.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout; the folder build/brokers/NAME must not exist.
    brokers : int
        1 or 3.
    properties : mapping, optional
        Broker settings that add to or replace those of `server_properties`.
    listeners : mapping, optional
        Security protocol of each extra listener, by name; see `server_properties`.
    owner : ProcessId, optional
        The program that the brokers must not outlive; without one they run until `down`.

    Returns
    -------
    NativeCluster
        The cluster, in service.

    Raises
    ------
    MissingToolError
        Java or Maven is not installed.
    BrokerError
        A broker does not start.
    """
    if brokers not in (1, 3):
        raise BrokerError(f"brokers {brokers}: a native cluster has 1 or 3; 2 tolerate no failure")
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
        See `start_native`.
    name : str, optional
        Name among the brokers of this checkout; by default a new one.

    Yields
    ------
    NativeCluster
        The cluster, in service. Its brokers end with the block, and with this program at the latest.
    """
    end_abandoned()
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


class NativeBroker(BrokerKind):
    """Apache Kafka on this machine's Java."""

    name = "native"
    cluster_sizes = (1, 3)

    def start(self, name: str, brokers: int = 1, *, owner: ProcessId | None = None) -> BrokerState:
        """Start Apache Kafka with one or three brokers."""
        return start_native(name, brokers, owner=owner).state()

    def resume(self, state: BrokerState) -> None:
        """Start the brokers of a cluster that do not run; if one fails, those that started keep running."""
        nodes = [Node.load(folder) for folder in sorted(state.folder.glob("broker-*"))]
        cluster = NativeCluster(state.name, nodes, state.owner)
        cluster.adopt(state.processes)
        cluster.start()

    def stop(self, state: BrokerState) -> None:
        """Shut all brokers of a cluster down in order."""
        for process in state.processes:
            process.stop(timeout=STOP_SECONDS)
        replace(state, stopped=True).save()

    def remove(self, state: BrokerState) -> None:
        """Kill all brokers of a cluster and delete their data."""
        end_processes(state)


def _format(nodes: Sequence[Node]) -> None:
    """Format the log folders of all brokers in parallel, because each needs a Java start."""
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
