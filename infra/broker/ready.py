"""Waiting until a broker answers clients, and not longer than it can."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.broker.errors import BrokerError


def answering(
    bootstrap_servers: str, *, timeout: float = 2.0, client: Mapping[str, Any] | None = None
) -> int:
    """Count the brokers that the cluster itself says are in service.

    Parameters
    ----------
    bootstrap_servers : str
        Where to ask.
    timeout : float
        Seconds to wait for the answer.
    client : mapping, optional
        Further settings of the client (security).

    Returns
    -------
    int
        Number of brokers; 0 when none answers.
    """
    return _count(_admin(bootstrap_servers, client), timeout)


def wait_until_answers(
    bootstrap_servers: str,
    *,
    brokers: int = 1,
    timeout: float = 60.0,
    running: Callable[[], bool] = lambda: True,
    client: Mapping[str, Any] | None = None,
) -> None:
    """Return once a cluster answers with all its brokers in service.

    Parameters
    ----------
    bootstrap_servers : str
        Where to ask.
    brokers : int
        How many brokers must be in service.
    timeout : float
        Seconds before giving up.
    running : callable
        Whether waiting still makes sense; False ends it (a broker's process has ended).
    client : mapping, optional
        Further settings of the client (security).

    Raises
    ------
    BrokerError
        When time is up, or `running` says no.
    """
    admin, deadline, seen = _admin(bootstrap_servers, client), time.monotonic() + timeout, 0
    while time.monotonic() < deadline:
        if not running():
            raise BrokerError(f"the broker at {bootstrap_servers} ended before it answered")
        seen = _count(admin, 1.0)
        if seen >= brokers:
            return
        time.sleep(0.1)
    raise BrokerError(f"{seen} of {brokers} brokers at {bootstrap_servers} answer after {timeout:g} s")


def _admin(bootstrap_servers: str, client: Mapping[str, Any] | None) -> AdminClient:
    # Refused connections are what waiting is made of: they are not worth a line each on standard error.
    quiet = {"log_level": 0, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 250}
    return AdminClient({"bootstrap.servers": bootstrap_servers, **quiet, **(client or {})})


def _count(admin: AdminClient, timeout: float) -> int:
    try:
        return len(admin.list_topics(timeout=timeout).brokers)
    except KafkaException:
        return 0
