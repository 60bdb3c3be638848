"""Log setup: structlog for this project's and the libraries' logs, as JSON or for people, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from streams.config.log_throttling import RepeatedWarningFilter

SECRETS = re.compile(r"(^|[^a-z])(password|secret|token|credentials?|authorization|api.?key)$")
"""Last words of the names of secrets, as in `web_token` and `sasl.password`."""
MASK = "**********"
SIGNIFICANT_DIGITS = 12
"""Digits of numbers in the log, few enough to hide the noise of binary arithmetic."""

# libraries log from these levels on, at which their messages help operators
LIBRARY_LEVELS = {
    "faust": logging.INFO,
    # ledgers load themselves, so messages about Faust's recovery would mislead
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
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "openai": logging.WARNING,
}


class LibraryNoise(logging.Filter):
    """A filter that drops messages of libraries below a warning, except for libraries in `LIBRARY_LEVELS`.

    Otherwise a renamed or new library could log a line for each request.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the record is logged."""
        if record.levelno >= logging.WARNING or isinstance(record.msg, dict):
            return True  # events of this project are mappings at this point
        name = record.name
        while name and name not in LIBRARY_LEVELS:
            name = name.rpartition(".")[0]
        return record.levelno >= LIBRARY_LEVELS.get(name, logging.WARNING)


def configure_logs(level: str = "info", form: str = "json", stream: TextIO | None = None) -> None:
    """Send all logs of this process, including those of libraries, to one stream.

    Create Faust's worker with `override_logging=False`, or it replaces this setup.

    Parameters
    ----------
    level : str
        Minimum level: debug, info, warning or error.
    form : str
        "json" (one object per line) or "console".
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
        # the default formatter shows the values of variables, which may be passwords
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(stream)
    handler.addFilter(LibraryNoise())
    handler.addFilter(RepeatedWarningFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    minimum = logging.getLevelNamesMapping()[level.upper()]
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(minimum)
    logging.captureWarnings(True)
    for name, library_level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(minimum, library_level))
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
    """Mask the values of secrets and round numbers, at any depth of mappings and lists."""
    return {key: _shown(key, value) for key, value in event.items()}


def _shown(key: object, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value  # None shows only that no secret is set
    if SECRETS.search(str(key).lower()):
        return MASK
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, dict):
        return {inner: _shown(inner, content) for inner, content in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_shown("", content) for content in value)
    return value


def _to_json(event: Any, **kwargs: Any) -> str:
    return orjson.dumps(
        event, default=repr, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    ).decode()
