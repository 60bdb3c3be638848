"""Logs: structlog for our own and for those of the libraries, as JSON or for people, without secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from streams.troubles import Seldom

SECRET_WORDS = ("password", "secret", "token", "credential", "authorization", "api_key")
NOT_SECRET = ("tokens",)
MASK = "**********"

# what a library says at this level or above is of use to who runs a worker
LIBRARY_LEVELS = {
    "faust": logging.INFO,
    # our ledgers load themselves: what Faust tells about recovery is about nothing
    "faust.tables.recovery": logging.WARNING,
    "faust.transport": logging.WARNING,
    "mode": logging.WARNING,
    "aiokafka": logging.WARNING,
    "kafka": logging.WARNING,
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "sentence_transformers": logging.WARNING,
    "transformers": logging.WARNING,
    "urllib3": logging.WARNING,
    "httpx": logging.WARNING,
}


def configure_logs(level: str = "info", form: str = "json", stream: TextIO | None = None) -> None:
    """All logs of this process, those of libraries too, to one stream.

    Faust's worker would set up logging anew: make it with `override_logging=False`.

    Parameters
    ----------
    level : str
        Least level: debug, info, warning or error.
    form : str
        "json" (one object a line) or "console".
    stream : file, optional
        Standard error by default.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask_secrets,
    ]
    if form == "json":
        last: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    else:
        # not the pretty one: it shows the values of variables, and one may be a password
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(stream)
    handler.addFilter(Seldom())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(least)
    logging.captureWarnings(True)
    for name, library_level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(least, library_level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared[:3],
            *shared[4:],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def mask_secrets(logger: Any, method: str, event: EventDict) -> EventDict:
    """Whatever has a key that sounds like a secret is masked, at any depth of mappings."""
    return _masked(event)


def _masked(data: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in data.items():
        name = str(key).lower()
        if any(word in name for word in SECRET_WORDS) and not name.endswith(NOT_SECRET):
            data[key] = MASK
        elif isinstance(value, dict):
            data[key] = _masked(dict(value))
    return data


def _to_json(event: Any, **kwargs: Any) -> str:
    return orjson.dumps(
        event, default=repr, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    ).decode()
