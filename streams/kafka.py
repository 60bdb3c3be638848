"""How to reach the broker: the configuration of every client, and waiting for one that does not answer."""

from __future__ import annotations

import ssl
import time
from typing import Any

import faust
import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from faust.types.auth import CredentialsT

from streams.settings import Settings

MAX_REQUEST_BYTES = 64 * 2**20
"""What our producers may send in one message: a dead letter is as large as what it was made of."""

log = structlog.get_logger(__name__)


class BrokerUnreachable(Exception):  # noqa: N818 - a state of the world, not of the program
    """No broker answers; the message names the brokers, the reason and the fix."""


def client_config(settings: Settings) -> dict[str, Any]:
    """What every confluent-kafka client is told: brokers and security. Do not log it: it has secrets.

    Raises
    ------
    ValueError
        No brokers are set.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": settings.brokers(),
        "security.protocol": settings.security_protocol,
        "client.id": settings.app_id,
        # a broker that is away is told by `wait_for_broker`, once, not by every thread of every client
        "log_level": 2,
        "reconnect.backoff.max.ms": 2000,
    }
    if settings.security_protocol.startswith("SASL"):
        assert settings.sasl_password is not None
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username
        config["sasl.password"] = settings.sasl_password.get_secret_value()
    files = {
        "ssl.ca.location": settings.ssl_cafile,
        "ssl.certificate.location": settings.ssl_certfile,
        "ssl.key.location": settings.ssl_keyfile,
    }
    return config | {key: str(path) for key, path in files.items() if path is not None}


def producer_config(settings: Settings) -> dict[str, Any]:
    """A producer that never reorders and never sends twice."""
    return client_config(settings) | {"enable.idempotence": True, "message.max.bytes": MAX_REQUEST_BYTES}


def transactional_config(settings: Settings, name: str) -> dict[str, Any]:
    """A producer of transactions.

    Parameters
    ----------
    settings : Settings
    name : str
        What it writes for, such as "3" for input partition 3; with the app id it is the transactional id, so
        a second producer of the same name fences the first.
    """
    return producer_config(settings) | {
        "transactional.id": f"{settings.app_id}-{name}",
        "transaction.timeout.ms": int(settings.transaction_timeout_seconds * 1000),
        # a batch is there at once: there is nothing to wait for
        "linger.ms": 0,
    }


def reader_config(settings: Settings, group: str | None = None) -> dict[str, Any]:
    """A consumer of what is committed, which tells the end of each partition and never commits offsets.

    Parameters
    ----------
    settings : Settings
    group : str, optional
        Consumer group; by default one that only reads what it assigns itself.
    """
    return client_config(settings) | {
        "group.id": group or f"{settings.app_id}-reader",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "allow.auto.create.topics": False,
        # the default of 500 ms is what a replay would wait at every pause
        "fetch.wait.max.ms": 50,
    }


def faust_brokers(settings: Settings) -> list[str]:
    """The brokers as Faust wants them."""
    return [f"aiokafka://{broker}" for broker in settings.brokers().split(",")]


def faust_credentials(settings: Settings) -> CredentialsT | None:
    """How Faust's clients log in; None for a broker without security."""
    protocol = settings.security_protocol
    context = _ssl_context(settings) if protocol.endswith("SSL") else None
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    if protocol == "PLAINTEXT":
        return None
    assert settings.sasl_password is not None
    return faust.SASLCredentials(
        username=settings.sasl_username,
        password=settings.sasl_password.get_secret_value(),
        mechanism=settings.sasl_mechanism,
        ssl_context=context,
    )


def reach_broker(settings: Settings, seconds: float = 5.0) -> AdminClient:
    """An admin client of a broker that answers.

    Raises
    ------
    BrokerUnreachable
        None answers within `seconds`.
    """
    reasons: list[str] = []

    def remember(error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # says less than the errors before it
            reasons.append(error.str())

    admin = AdminClient(client_config(settings) | {"error_cb": remember})
    try:
        admin.list_topics(timeout=seconds)
    except KafkaException as error:
        admin.poll(0)
        reason = reasons[-1] if reasons else error.args[0].str()
        raise BrokerUnreachable(
            f"bootstrap_servers: {settings.bootstrap_servers} does not answer over "
            f"{settings.security_protocol} ({reason}); start the broker or correct the settings"
        ) from None
    return admin


def loses_overlapping(admin: AdminClient) -> bool:
    """Whether the broker is one that loses sight of transactions which overlap in time.

    The embedded one (Tansu 0.6) ends a transaction only once those that overlap it on a partition have ended.
    Of three in a chain, where the first waits for the second and the second for the third, it never ends the
    first: what is committed after it on its partitions is shown to no reader of what is committed.
    """
    return admin.list_topics(timeout=10.0).cluster_id == "tansu_cluster"


def wait_for_broker(settings: Settings, pause: float = 2.0) -> AdminClient:
    """An admin client of the broker, however long it takes; while it does not answer, the log says so."""
    began, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        try:
            admin = reach_broker(settings, seconds=5.0)
        except BrokerUnreachable as error:
            log.warning("broker_unreachable", reason=str(error), attempt=attempt, retry_seconds=pause)
            time.sleep(pause)
            continue
        if attempt > 1:
            log.info("broker_reached", attempt=attempt, waited_seconds=round(time.monotonic() - began, 1))
        return admin


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_cafile and str(settings.ssl_cafile))
    if settings.ssl_certfile and settings.ssl_keyfile:
        context.load_cert_chain(str(settings.ssl_certfile), str(settings.ssl_keyfile))
    return context
