"""The broker that the environment names: its address, its security settings, and whether it answers."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException

from infra.broker.errors import BrokerError
from infra.broker.readiness import wait_until_answers
from infra.broker.state_file import BrokerState

SERVERS_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
ANSWER_SECONDS = 10.0


def external_broker(environment: Mapping[str, str]) -> BrokerState | None:
    """Return the broker that the environment names, or None."""
    servers = environment.get(SERVERS_VARIABLE, "").strip()
    return BrokerState("given", "given", servers) if servers else None


def security_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with the security settings of the external broker."""
    from streams.config.settings import SECURITY

    names = {f"PORT_{name.upper()}" for name in SECURITY}
    return {key: value for key, value in environment.items() if key.upper() in names and value}


def security_config(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the security configuration of a confluent-kafka client, as the router builds it.

    Raises
    ------
    BrokerError
        A variable is invalid, or the variables contradict each other.
    """
    variables = security_variables(environment)
    if not variables:
        return {}  # importing the router takes a while
    from pydantic import ValidationError
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

    from streams.config.setting_errors import setting_errors
    from streams.config.settings import Settings
    from streams.kafka.clients import client_config

    class SecuritySettings(Settings):
        """Settings from arguments only: other settings in the environment may be invalid."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            *others: PydanticBaseSettingsSource,
            **more: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    fields: dict[str, Any] = {
        key.upper().removeprefix("PORT_").lower(): value for key, value in variables.items()
    }
    try:
        settings = SecuritySettings(bootstrap_servers="given:9092", **fields)
    except ValidationError as error:
        raise BrokerError("; ".join(text for _, text in setting_errors(error))) from None
    config = client_config(settings)
    return {key: value for key, value in config.items() if key.startswith(("security.", "sasl.", "ssl."))}


def check_external(state: BrokerState, client: Mapping[str, Any] | None = None) -> None:
    """Check that the external broker answers.

    Parameters
    ----------
    state : BrokerState
        From `external_broker`.
    client : mapping, optional
        From `security_config`; by default the client connects without security.

    Raises
    ------
    BrokerError
        The broker does not answer within `ANSWER_SECONDS`, or the client configuration is invalid.
    """
    protocol = (client or {}).get("security.protocol", "PLAINTEXT")
    try:
        wait_until_answers(state.bootstrap_servers, timeout=ANSWER_SECONDS, client=client)
    except KafkaException as error:
        raise BrokerError(
            f"{SERVERS_VARIABLE}: no client can be created for {protocol} ({error}); correct the settings"
        ) from None
    except BrokerError:
        raise BrokerError(
            f"{SERVERS_VARIABLE}={state.bootstrap_servers} does not answer over {protocol}: "
            "start the broker, correct the address or PORT_SECURITY_PROTOCOL and its related settings, "
            "or unset the variable"
        ) from None
