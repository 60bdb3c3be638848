"""Variables that Kubernetes sets for Services, some of which have the names of settings.

For a Service `port-web` every pod of its namespace has `PORT_WEB_PORT=tcp://10.96.0.12:8080`,
`PORT_WEB_SERVICE_HOST` and more, unless its specification says `enableServiceLinks: false`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pydantic_settings import EnvSettingsSource

ADDRESS = re.compile(r"\s*(tcp|udp|sctp)://(\[[0-9a-f:.%]+\]|[0-9a-z:.-]+):\d+\s*", re.IGNORECASE)
HOST = "_SERVICE_HOST"
REST = r"_(SERVICE_(HOST|PORT)|PORT_\d)"
PREFIX = "PORT"
"""Names of settings begin with it, and so do the variables of a Service that is called `port`."""


def service_links(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the variables of Services whose names begin like those of settings, by the Service's name.

    Examples
    --------
    >>> service_links({"PORT_WEB_PORT": "tcp://10.96.0.12:8080", "PORT_SEED": "7"})
    {'port-web': ['PORT_WEB_PORT']}
    """
    port_names = [name for name in environment if name.startswith(PREFIX)]
    hosts = [name.removesuffix(HOST) for name in port_names if name.endswith(HOST)]
    links: dict[str, list[str]] = {}
    for name, value in sorted(environment.items()):
        if not name.upper().startswith(f"{PREFIX}_"):
            continue
        is_address = ADDRESS.fullmatch(value) is not None
        owners = [host for host in hosts if re.match(f"{re.escape(host)}{REST}", name)]
        if is_address or owners:
            owner = max(owners, key=len, default=re.sub(r"_PORT(_\d.*)?$", "", name))
            links.setdefault(owner.lower().replace("_", "-"), []).append(name)
    return links


def without_service_links(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables that Kubernetes set for Services."""
    linked = {name for names in service_links(environment).values() for name in names}
    return {name: value for name, value in environment.items() if name not in linked}


def service_link_notes(environment: Mapping[str, str]) -> list[str]:
    """Describe for people which variables are ignored, a text for each Service."""
    notes = []
    for service, names in service_links(environment).items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        notes.append(
            f"{names[0]}{more}: ignored, because Kubernetes sets such variables for the Service {service}; "
            "rename the Service, or set enableServiceLinks: false in the pod's specification"
        )
    return notes


class Environment(EnvSettingsSource):
    """Settings out of the environment, without the variables that Kubernetes sets for Services."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        linked = {name.lower() for names in service_links(os.environ).values() for name in names}
        variables = super()._load_env_vars()
        return {name: value for name, value in variables.items() if name.lower() not in linked}
