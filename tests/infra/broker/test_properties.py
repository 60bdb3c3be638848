"""server.properties of one broker and of three."""

from pathlib import Path

from infra.broker.ports import FIRST_PORT, LAST_PORT, free_ports, is_free
from infra.broker.properties import Node, render, server_properties


def nodes(count: int, *extra: str) -> list[Node]:
    names = ["PLAINTEXT", "CONTROLLER", *extra]
    return [
        Node(i, Path(f"/b{i}"), {n: 1000 * i + j for j, n in enumerate(names)}) for i in range(1, count + 1)
    ]


def test_server_properties_replication_equals_brokers() -> None:
    for count, in_sync in ((1, "1"), (3, "2")):
        cluster = nodes(count)
        settings = server_properties(cluster[0], cluster)
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic", "default"):
            assert settings[f"{topic}.replication.factor"] == str(count)
        assert settings["min.insync.replicas"] == settings["transaction.state.log.min.isr"] == in_sync
        assert settings["auto.create.topics.enable"] == "false"


def test_server_properties_three_brokers_form_a_quorum() -> None:
    cluster = nodes(3)
    all_settings = [server_properties(node, cluster) for node in cluster]
    assert len({s["controller.quorum.voters"] for s in all_settings}) == 1
    assert all_settings[0]["controller.quorum.voters"] == "1@127.0.0.1:1001,2@127.0.0.1:2001,3@127.0.0.1:3001"
    assert all_settings[1]["listeners"] == "PLAINTEXT://127.0.0.1:2000,CONTROLLER://127.0.0.1:2001"
    assert all_settings[1]["advertised.listeners"] == "PLAINTEXT://127.0.0.1:2000"


def test_server_properties_extra_listeners_and_settings_are_added() -> None:
    cluster = nodes(1, "CLIENTS")
    settings = server_properties(
        cluster[0], cluster, listeners={"CLIENTS": "SASL_SSL"}, extra={"num.io.threads": "2"}
    )
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1000,CLIENTS://127.0.0.1:1002"
    protocols = settings["listener.security.protocol.map"]
    assert protocols == "PLAINTEXT:PLAINTEXT,CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT"
    assert settings["num.io.threads"] == "2"


def test_render_escapes_backslashes_and_newlines() -> None:
    assert render({"a": "x\\y\nz"}) == "a=x\\\\y\\n\\\nz\n"


def test_free_ports_are_free_and_distinct() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(FIRST_PORT <= port < LAST_PORT and is_free(port) for port in ports)
