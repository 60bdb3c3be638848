"""The server.properties of one KRaft broker among one or three on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One broker of a cluster.

    Parameters
    ----------
    node_id : int
        Number of the broker, from 1.
    folder : Path
        Folder of its data, settings and log.
    ports : dict
        Port by listener name: `PLAINTEXT`, `CONTROLLER` and the extra listeners.
    """

    node_id: int
    folder: Path
    ports: dict[str, int] = field(hash=False)

    @classmethod
    def load(cls, folder: Path) -> "Node":
        """Read a node from the settings in its folder."""
        lines = (folder / "server.properties").read_text().splitlines()
        settings = dict(line.split("=", 1) for line in lines if "=" in line)
        addresses = (listener.split("://", 1) for listener in settings["listeners"].split(","))
        ports = {name: int(address.rsplit(":", 1)[1]) for name, address in addresses}
        return cls(int(settings["node.id"]), folder, ports)

    @property
    def settings(self) -> Path:
        """Path of its server.properties."""
        return self.folder / "server.properties"

    @property
    def log(self) -> Path:
        """Path of the broker's output."""
        return self.folder / "broker.log"


def server_properties(
    node: Node,
    nodes: list[Node],
    *,
    listeners: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return a broker's settings for tests on a small machine.

    Parameters
    ----------
    node : Node
        The broker. It is also a controller (KRaft's combined mode).
    nodes : list of Node
        All brokers of the cluster, including `node`.
    listeners : mapping, optional
        Security protocol (`SASL_SSL`, ...) of each extra listener, by name. The unsecured listener
        `PLAINTEXT` remains for the brokers and for tools of this machine.
    extra : mapping, optional
        Settings that add to or replace those chosen here.

    Returns
    -------
    dict
        Value by setting; all values are strings.
    """
    protocols = {"PLAINTEXT": "PLAINTEXT", **(listeners or {}), "CONTROLLER": "PLAINTEXT"}
    addresses = {name: f"{name}://127.0.0.1:{node.ports[name]}" for name in protocols}
    count = len(nodes)
    in_sync = 2 if count >= 3 else 1
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        "controller.quorum.voters": ",".join(f"{n.node_id}@127.0.0.1:{n.ports['CONTROLLER']}" for n in nodes),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": ",".join(addresses.values()),
        "advertised.listeners": ",".join(a for name, a in addresses.items() if name != "CONTROLLER"),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocol}" for name, protocol in protocols.items()
        ),
        "log.dirs": str(node.folder / "data"),
        # An acknowledged record is on two of three brokers, so a killed broker loses and blocks nothing.
        "default.replication.factor": str(count),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(count),
        "transaction.state.log.replication.factor": str(count),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(count),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        # Kafka's default of 50 partitions is for clusters of many disks; here they cost time and files.
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.num.partitions": "8",
        # An unknown topic is an error in the settings.
        "auto.create.topics.enable": "false",
        # Kafka waits 3 s for more members to join a new group; in tests they join one by one.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        **(extra or {}),
    }


def render(properties: Mapping[str, str]) -> str:
    """Return settings in Java's properties format.

    Examples
    --------
    >>> render({"a": "1", "path": r"x\\y"})
    'a=1\\npath=x\\\\\\\\y\\n'
    """
    lines = []
    for key, value in properties.items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n\\\n")
        lines.append(f"{key}={escaped}\n")
    return "".join(lines)
