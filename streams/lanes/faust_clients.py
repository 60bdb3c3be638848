"""Brokers and credentials of Faust's clients."""

from __future__ import annotations

import ssl

import faust
from faust.types.auth import CredentialsT

from streams.config.settings import Settings


def faust_brokers(settings: Settings) -> list[str]:
    """Return the brokers in Faust's notation."""
    return [f"aiokafka://{broker}" for broker in settings.brokers().split(",")]


def faust_credentials(settings: Settings) -> CredentialsT | None:
    """Return the credentials of Faust's clients; None for a broker without security."""
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


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_cafile and str(settings.ssl_cafile))
    if settings.ssl_certfile and settings.ssl_keyfile:
        context.load_cert_chain(str(settings.ssl_certfile), str(settings.ssl_keyfile))
    return context
