"""Logging to standard error, one line per event: JSON in production, human-readable in development.

`structlog.get_logger(__name__).info("order paid", order_id=…)` and the standard library's loggers write the same format.
Each line contains the service, the request id, the trace id, the span id, and the values that
`structlog.contextvars.bind_contextvars` has bound. `chassis.observability.privacy` removes personal data and secrets.
"""

import contextlib
import json
import logging
import logging.config
import os
import re
import sys
import time
import traceback
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

import orjson
import structlog
from django.conf import settings
from structlog.tracebacks import ExceptionDictTransformer

from chassis import exceptions
from chassis.observability import correlation, privacy, startup, tracing

EventDict = MutableMapping[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

# Loggers that repeat the same message while something is down, of which one line per minute is sufficient.
REPETITIVE = ("opentelemetry", "librdkafka")

# Levels of loggers that are noisy, or that log data: SQL with its parameters, 404s with their paths.
LEVELS = {
    "django.db.backends": "WARNING",
    "django.request": "ERROR",
    "django.server": "ERROR",
    "asyncio": "WARNING",
    "urllib3": "WARNING",
}

_chain: list[Any] = []


def configure(config: dict[str, Any]) -> None:
    """Configure the logging of this process; Django's LOGGING_CONFIG. `config["level"]` is the lowest level."""
    level: str = config.get("level", "INFO")
    as_json = settings.LOG_FORMAT == "json"
    prepare, render = _processors(as_json=as_json)
    # Changed in place, so that it also applies to loggers that were created before this call.
    _chain[:] = [*prepare, *render]
    structlog.configure(
        processors=_chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=_Stream,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(_stdlib(level, prepare, render))
    logging.captureWarnings(True)
    if as_json:
        startup.set_hooks(_write_uncaught)


def log_all(level: Literal["debug", "info", "warning"], logger: str, event: str, rows: Iterable[EventDict]) -> None:
    """Log the same event once for each of `rows`, its fields, which must include request_id, trace_id and span_id.

    Writes the same lines as `structlog.get_logger(logger).info(event, **row)`, but for many rows at a fraction of the cost. No
    field may have a name that must be masked.
    """
    if not logging.root.isEnabledFor(logging.getLevelName(level.upper())):
        return
    if not (_chain and isinstance(_chain[-1], structlog.processors.JSONRenderer)):
        write = getattr(structlog.get_logger(logger), level)
        for row in rows:
            write(event, **row)
        return
    time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    same = {"event": event, "logger": logger, "level": level, "timestamp": time, "service": settings.SERVICE_NAME}
    if lines := [privacy.scrub(_dumps({**row, **same})) for row in rows]:
        _Stream().msg("\n".join(lines))


def _processors(*, as_json: bool) -> tuple[list[Any], list[Any]]:
    prepare = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _identify,
        structlog.processors.ExceptionRenderer(_exception_as_data if as_json else _exception_as_text),
        structlog.processors.StackInfoRenderer(),
        privacy.mask,
    ]
    if as_json:
        return prepare, [structlog.processors.JSONRenderer(serializer=_dumps)]
    console = structlog.dev.ConsoleRenderer(
        colors=_coloured(), sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    return prepare, [_escape_controls, console]


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""All control characters but tab and line feed, and those that change the direction of text."""


def _escape_controls(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep a record's key, or a client's text, from sending commands to the terminal. Values that are not text are shown by repr()."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _CONTROLS.sub(lambda found: repr(found[0])[1:-1], value)
    return event


def _stdlib(level: str, prepare: list[Any], render: list[Any]) -> dict[str, Any]:
    through = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": prepare,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
            }
        },
        "filters": {"rate_limit": {"()": RateLimitFilter}, "client_input": {"()": ClientInputFilter}},
        "handlers": {"line": {"()": _StandardError, "formatter": "line", "filters": ["rate_limit", "client_input"]}},
        "root": {"level": level, "handlers": ["line"]},
        "loggers": {
            # Remove the handlers that Django and the servers install.
            **{name: dict(through) for name in ("django", "gunicorn.error", "gunicorn.access")},
            **{name: {**through, "level": lowest} for name, lowest in LEVELS.items()},
        },
    }


class _Stream:
    """Writes structlog's lines to the current standard error, one write per line."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        # If standard error is closed, the request that logs must not fail.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


class _StandardError(logging.StreamHandler[Any]):
    """Writes the standard library's lines to the current standard error."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class ClientInputFilter(logging.Filter):
    """Removes the client's input from Django's log lines about requests.

    The line about a suspicious request keeps the logger's name, which shows its kind; that about a failed request keeps the
    exception, without the path.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True, after the text was replaced."""
        if record.name.startswith("django.security."):
            record.msg, record.args = "suspicious request", ()
            record.exc_info = record.exc_text = None
        elif record.name == "django.request":
            record.msg, record.args = "request failed", ()
        return True


class RateLimitFilter(logging.Filter):
    """Limits repeated lines of REPETITIVE loggers to one per minute, and Django's lines about responses to exceptions.

    Django logs `Service Unavailable: /path` after the request id is unbound; the access log already contains it.
    """

    seconds = 60.0
    max_entries = 500

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log this line."""
        if record.name == "django.request" and not record.exc_info:
            return False
        if not record.name.startswith(REPETITIVE):
            return True
        # Equivalent lines differ in addresses, durations and counts.
        key = (record.name, re.sub(r"[\d.:]+", "#", record.getMessage())[:100])
        now = time.monotonic()
        if now - self._last.get(key, -self.seconds) < self.seconds:
            return False
        if len(self._last) >= self.max_entries:
            self._last.clear()
        self._last[key] = now
        return True


def _identify(logger: Any, method: str, event: EventDict) -> EventDict:
    event["service"] = settings.SERVICE_NAME
    event.setdefault("request_id", correlation.current_request_id())
    if "trace_id" not in event:
        event["trace_id"], event["span_id"] = tracing.current_ids()
    return event


# Local variables are never shown, since they may contain passwords and personal data.
_transform = ExceptionDictTransformer(show_locals=False, max_frames=40)


def _exception_as_data(exc_info: ExcInfo) -> list[dict[str, Any]]:
    try:
        return _parts(exc_info)
    except Exception as error:  # noqa: BLE001  logging an exception must not raise another
        reason = f"(cannot be shown: {type(error).__name__})"
        return [{"type": exc_info[0].__name__, "message": reason, "stack": []}]


def _parts(exc_info: ExcInfo) -> list[dict[str, Any]]:
    return [
        {
            "type": part["exc_type"],
            "message": privacy.scrub_error(part["exc_value"][: exceptions.MOST_READ]),
            "stack": [f"{frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in part["frames"]],
        }
        for part in _transform(exc_info)
    ]


def _exception_as_text(exc_info: ExcInfo) -> str:
    try:
        text = "".join(traceback.format_exception(*exc_info)).rstrip()
    except Exception as error:  # noqa: BLE001  logging an exception must not raise another
        text = f"{exc_info[0].__name__}: (cannot be shown: {type(error).__name__})"
    return privacy.scrub_error(text[-exceptions.MOST_READ :])


def _dumps(event: EventDict, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # orjson rejects integers over 64 bits and invalid Unicode, but no log line may be lost.
        return json.dumps(event, default=repr, skipkeys=True)


def _coloured() -> bool:
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _write_uncaught(event: str, error: BaseException | None) -> None:
    structlog.get_logger("uncaught").critical(event, exc_info=error)
