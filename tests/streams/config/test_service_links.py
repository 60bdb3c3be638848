"""Variables that Kubernetes sets for Services are distinguished from settings."""

import pytest

from streams.config.service_links import service_link_notes, service_links, without_service_links

OF_SERVICE = {
    "PORT_WEB_SERVICE_HOST": "10.96.0.12",
    "PORT_WEB_SERVICE_PORT": "8080",
    "PORT_WEB_SERVICE_PORT_HTTP": "8080",
    "PORT_WEB_PORT": "tcp://10.96.0.12:8080",
    "PORT_WEB_PORT_8080_TCP": "tcp://10.96.0.12:8080",
    "PORT_WEB_PORT_8080_TCP_PROTO": "tcp",
    "PORT_WEB_PORT_8080_TCP_PORT": "8080",
    "PORT_WEB_PORT_8080_TCP_ADDR": "10.96.0.12",
}
SETTINGS = {"PORT_SEED": "7", "PORT_WEB_TOKEN": "x", "PORT_WEB_HOST": "0.0.0.0", "PATH": "/bin"}


def test_service_links_all_variables_of_a_service_are_found():
    assert service_links(OF_SERVICE | SETTINGS) == {"port-web": sorted(OF_SERVICE)}
    assert without_service_links(OF_SERVICE | SETTINGS) == SETTINGS
    (note,) = service_link_notes(OF_SERVICE | SETTINGS)
    assert note.startswith("PORT_WEB_PORT and 7 more: ignored")
    assert "enableServiceLinks: false" in note


def test_service_links_service_named_port_is_found():
    of_port = {name.replace("PORT_WEB_", "PORT_", 1): value for name, value in OF_SERVICE.items()}

    assert without_service_links(of_port | SETTINGS) == SETTINGS


@pytest.mark.parametrize(
    "address", ["tcp://10.96.0.12:8080", "udp://10.0.0.1:53", "tcp://[fd00::1]:80", "TCP://10.0.0.1:80"]
)
def test_service_links_address_alone_is_found(address: str):
    assert service_links({"PORT_WEB_PORT": address}) == {"port-web": ["PORT_WEB_PORT"]}


@pytest.mark.parametrize("value", ["8080", "http://10.0.0.1:80", "tcp://", "tcp", ""])
def test_service_links_other_values_are_settings(value: str):
    assert service_links({"PORT_WEB_PORT": value}) == {}


def test_service_links_explicit_port_beside_a_service_is_a_setting():
    assert "PORT_WEB_PORT" in without_service_links(OF_SERVICE | {"PORT_WEB_PORT": "8001"})
