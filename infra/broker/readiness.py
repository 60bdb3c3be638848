"""Wait until a broker answers clients."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.broker.errors import BrokerError


def count_brokers(
    bootstrap_servers: str, *, timeout: float = 2.0, client: Mapping[str, Any] | None = None
) -> int:
    """Return the number of brokers that the cluster reports as in service.

    Parameters
    ----------
    bootstrap_servers : str
        Addresses of the cluster.
    timeout : float
        Maximum seconds to wait for the response.
    client : mapping, optional
        Further client configuration (security).

    Returns
    -------
    int
        Number of brokers; 0 if none answers.
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
    """Return as soon as a cluster reports all its brokers as in service.

    Parameters
    ----------
    bootstrap_servers : str
        Addresses of the cluster.
    brokers : int
        Required number of brokers in service.
    timeout : float
        Maximum seconds to wait.
    running : callable
        Returns False when a broker's process has ended, which ends the wait.
    client : mapping, optional
        Further client configuration (security).

    Raises
    ------
    BrokerError
        The timeout has passed, or `running` returned False.
    """
    admin, deadline, count = _admin(bootstrap_servers, client), time.monotonic() + timeout, 0
    while time.monotonic() < deadline:
        if not running():
            raise BrokerError(f"the broker at {bootstrap_servers} ended before it answered")
        count = _count(admin, 1.0)
        if count >= brokers:
            return
        time.sleep(0.1)
    raise BrokerError(f"{count} of {brokers} brokers at {bootstrap_servers} answer after {timeout:g} s")


def _admin(bootstrap_servers: str, client: Mapping[str, Any] | None) -> AdminClient:
    # Refused connections are expected while the broker starts, so librdkafka does not log them.
    quiet = {"log_level": 0, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 250}
    return AdminClient({"bootstrap.servers": bootstrap_servers, **quiet, **(client or {})})


def _count(admin: AdminClient, timeout: float) -> int:
    try:
        return len(admin.list_topics(timeout=timeout).brokers)
    except KafkaException:
        return 0
