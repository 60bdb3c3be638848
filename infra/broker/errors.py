"""Errors of starting, reaching and stopping brokers."""


class BrokerError(RuntimeError):
    """A broker could not be started, reached or stopped; the message says why and names the remedy."""


class MissingToolError(BrokerError):
    """A program that a broker kind needs is not installed; the message says how to install it."""
