"""The server.properties of one KRaft broker among one or three on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One broker's place in its cluster.

    Parameters
    ----------
    node_id : int
        1, 2, ...
    folder : Path
        Where its data, settings and log are.
    ports : dict
        Port by listener name: `PLAINTEXT` and `CONTROLLER`, and whatever extra listeners there are.
    """

    node_id: int
    folder: Path
    ports: dict[str, int] = field(hash=False)

    @property
    def settings(self) -> Path:
        """Its server.properties."""
        return self.folder / "server.properties"

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / "broker.log"


def server_properties(
    node: Node,
    nodes: list[Node],
    *,
    listeners: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give a broker's settings, fit for a machine of two cores and for tests.

    Parameters
    ----------
    node : Node
        The broker; each is broker and controller in one (KRaft's combined mode).
    nodes : list of Node
        All of its cluster, itself included.
    listeners : mapping, optional
        Security protocol (`SASL_SSL`, ...) by name of each listener beyond `PLAINTEXT`, which brokers and
        tools of this machine use among themselves and which stays open.
    extra : mapping, optional
        Settings that are added, or that replace those chosen here.

    Returns
    -------
    dict
        Value by setting, all strings.
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
        # An acknowledged record is on two of three brokers: a killed one loses nothing and stops nobody.
        "default.replication.factor": str(count),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(count),
        "transaction.state.log.replication.factor": str(count),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(count),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        # Kafka's 50 partitions of each are for clusters of many disks; here they cost start-up and files.
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.num.partitions": "8",
        # A topic that nobody created is a mistake in the settings, not a wish.
        "auto.create.topics.enable": "false",
        # Kafka waits 3 s for more members to join a new group; here they come one by one, in tests.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        **(extra or {}),
    }


def render(properties: Mapping[str, str]) -> str:
    """Write settings in Java's properties format.

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
