"""Kafka client configuration, and waiting for a broker."""

from __future__ import annotations

import time
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException

from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient, Consumer, Producer

MAX_REQUEST_BYTES = 64 * 2**20
"""Maximum size of a produced message. A dead letter is as large as the rejected message."""

log = structlog.get_logger(__name__)


class BrokerUnreachable(Exception):  # noqa: N818 - a state of the world, not of the program
    """No broker answers; the message names the brokers, the reason and the fix."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Return the settings of every confluent-kafka client: brokers and security.

    Do not log them: they have secrets.

    Raises
    ------
    ValueError
        No brokers are set.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": settings.brokers(),
        "security.protocol": settings.security_protocol,
        "client.id": settings.app_id,
        # `wait_for_broker` reports an outage once, instead of every thread of every client
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
    """Return the settings of a producer that neither reorders nor duplicates messages."""
    return client_config(settings) | {"enable.idempotence": True, "message.max.bytes": MAX_REQUEST_BYTES}


MAX_LINGER_MS = 50
"""Longest wait of a transaction's messages for more of them. A commit does not wait."""


BATCH_BYTES = 6 * 2**20
"""Largest batch of a transaction's messages for one partition (docs/decisions/027).

It is more than the queries of a lane's transaction have (`streams.lanes.backlog.MAX_BATCH_BYTES`) with what
the router adds to them, and less than every topic takes (`streams.kafka.topic_config.MIN_BATCH_BYTES`).
"""

ONE_REQUEST = {
    # a commit flushes, which ends the wait at once; without one, messages go out in requests of a few
    "linger.ms": MAX_LINGER_MS,
    # while a partition waits for the answer to a first request with the messages of a second one, the
    # client's thread polls without a pause: with a dozen producers, the broker gets no processor
    "batch.size": BATCH_BYTES,
    "batch.num.messages": 1_000_000,
}
"""Options of a producer whose transactions have one request for a partition."""


def transactional_config(settings: Settings, name: str) -> dict[str, Any]:
    """Return the settings of a transactional producer.

    Parameters
    ----------
    settings : Settings
    name : str
        Owner of the transactions, such as "3" for input partition 3. With the app id it is the transactional
        id, so a second producer of the same name fences the first.
    """
    return producer_config(settings) | {
        "transactional.id": f"{settings.app_id}-{name}",
        "transaction.timeout.ms": int(settings.transaction_timeout_seconds * 1000),
        **ONE_REQUEST,
    }


def round_config(settings: Settings, name: str) -> dict[str, Any]:
    """Return the settings of a producer whose transactions follow each other without a pause.

    The coordinator refuses the offsets of a transaction until it has completed the one before, which takes a
    few milliseconds. The client asks again after this backoff, which doubles each time; the default of 100 ms
    would be most of a round. The messages are on their way while the offsets are sent, before the commit.
    """
    return transactional_config(settings, name) | {"retry.backoff.ms": 5, "linger.ms": 2}


def reader_config(settings: Settings, group: str | None = None) -> dict[str, Any]:
    """Return the settings of a consumer of committed messages.

    It reports the end of each partition and never commits offsets.

    Parameters
    ----------
    settings : Settings
    group : str, optional
        Consumer group; by default one whose members assign partitions themselves.
    """
    return client_config(settings) | {
        "group.id": group or f"{settings.app_id}-reader",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "allow.auto.create.topics": False,
        # with the default, a replay would wait 500 ms at every pause
        "fetch.wait.max.ms": 50,
    }


def outcome_consumer(settings: Settings, fetch_wait_ms: int) -> Consumer:
    """Return a consumer that reports an error where the log no longer has the offset that it needs."""
    # the default would continue at another offset without an error
    options = {"fetch.wait.max.ms": fetch_wait_ms, "auto.offset.reset": "error"}
    return Consumer(reader_config(settings) | options)


def status_producer(settings: Settings) -> Producer:
    """Return a producer for messages that may be lost, with a short queue."""
    return Producer(producer_config(settings) | {"queue.buffering.max.messages": 10_000})


def reach_broker(settings: Settings, seconds: float = 5.0) -> AdminClient:
    """Return an admin client once a broker answers.

    Raises
    ------
    BrokerUnreachable
        No broker answers within `seconds`.
    """
    reasons: list[str] = []

    def remember(error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # less specific than the errors before it
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


def mishandles_overlapping_transactions(admin: AdminClient) -> bool:
    """Return True for the embedded broker, which mishandles transactions that overlap in time.

    The embedded broker (Tansu 0.6) ends a transaction only once all transactions that overlap it on a
    partition have ended. In a chain of three, in which the first waits for the second and the second for the
    third, it never ends the first. Readers of committed messages then see nothing behind it.
    """
    return admin.list_topics(timeout=10.0).cluster_id == "tansu_cluster"


def wait_for_broker(settings: Settings, pause: float = 2.0) -> AdminClient:
    """Wait until the broker answers, log each failed attempt, and return an admin client."""
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
