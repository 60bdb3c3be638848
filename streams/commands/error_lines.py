"""Error lines of commands: errors that a user can correct, without a traceback."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from pydantic import ValidationError

from routing.budgets.schema import CatalogueError
from routing.extras import missing_module
from routing.history.rules import HistoryError
from streams.config.setting_errors import setting_errors
from streams.kafka.clients import BrokerUnreachable
from streams.kafka.topics import TopicMismatch
from streams.messages.rejection import RejectedMessage


def error_lines(error: Exception) -> list[str]:
    """Return the lines to print for an error; none if its traceback is needed."""
    if isinstance(error, ValidationError):
        lines = [f"error: {text}" for _, text in setting_errors(error)]
        return [*lines, "`python -m streams config check` shows all settings and all mistakes"]
    if isinstance(error, CatalogueError | TopicMismatch):
        return [f"error: {text}" for text in error.problems]
    if isinstance(error, BrokerUnreachable | HistoryError | RejectedMessage | ValueError):
        return [f"error: {error}"]
    if isinstance(error, KafkaException):
        reason = kafka_reason(error)
        return [f"error: bootstrap_servers: the broker failed ({reason}); check that it runs, and try again"]
    if isinstance(error, OSError):
        return [f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}"]
    if isinstance(error, ModuleNotFoundError) and (text := missing_module(error.name)):
        return [f"error: {text}"]
    return []


def kafka_reason(error: KafkaException) -> str:
    """Return the error text of the broker or its client."""
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)
