"""The broker that the environment names: where it is, how to talk to it, and whether it answers."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException

from infra.broker.errors import BrokerError
from infra.broker.ready import wait_until_answers
from infra.broker.record import Record

GIVEN = "KAFKA_BOOTSTRAP_SERVERS"


def given(environment: Mapping[str, str]) -> Record | None:
    """Give the broker that the environment names, if it names one."""
    servers = environment.get(GIVEN, "").strip()
    return Record("given", "given", servers) if servers else None


def security_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the variables that say how to talk to the given broker, and to no other."""
    from streams.contradictions import SECURITY

    names = {f"PORT_{name.upper()}" for name in SECURITY}
    return {key: value for key, value in environment.items() if key.upper() in names and value}


def security(environment: Mapping[str, str]) -> dict[str, Any]:
    """Give what a confluent-kafka client of the given broker is told of security, as the router's are.

    Raises
    ------
    BrokerError
        When the variables are wrong or do not fit together.
    """
    told = security_variables(environment)
    if not told:
        return {}  # nor is the router imported, which takes a while
    from pydantic import ValidationError
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

    from streams.kafka import client_config
    from streams.mistakes import mistakes
    from streams.settings import Settings

    class Told(Settings):
        """What it is told, and nothing from elsewhere: other settings are the business of others."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            *others: PydanticBaseSettingsSource,
            **more: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    fields: dict[str, Any] = {key.upper().removeprefix("PORT_").lower(): told[key] for key in told}
    try:
        settings = Told(bootstrap_servers="given:9092", **fields)
    except ValidationError as error:
        raise BrokerError("; ".join(text for _, text in mistakes(error))) from None
    config = client_config(settings)
    return {key: value for key, value in config.items() if key.startswith(("security.", "sasl.", "ssl."))}


def check_given(record: Record, client: Mapping[str, Any] | None = None) -> None:
    """Return when the given broker answers.

    Parameters
    ----------
    record : Record
        From `given`.
    client : mapping, optional
        From `security`; without it the broker is asked as one that asks nobody who comes.

    Raises
    ------
    BrokerError
        When it does not, within 10 seconds, or no client can be made.
    """
    protocol = (client or {}).get("security.protocol", "PLAINTEXT")
    try:
        wait_until_answers(record.bootstrap_servers, timeout=10, client=client)
    except KafkaException as error:
        raise BrokerError(f"{GIVEN}: no client can be made for {protocol} ({error}); correct it") from None
    except BrokerError:
        raise BrokerError(
            f"{GIVEN}={record.bootstrap_servers} does not answer over {protocol}: start it, correct it or "
            "PORT_SECURITY_PROTOCOL and what belongs to it, or unset it"
        ) from None
