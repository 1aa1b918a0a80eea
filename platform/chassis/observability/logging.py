"""Logs, one line an event: JSON in production, readable in development, on standard error.

`structlog.get_logger(__name__).info("order paid", order_id=…)` and the standard library's loggers end in the same
lines. Each carries the service, the request id, the trace id and the span id, and whatever
`structlog.contextvars.bind_contextvars` has bound. `chassis.observability.privacy` keeps personal data and secrets out.

librdkafka writes here too when its client is made with `logger=logging.getLogger("librdkafka")`.
"""

import contextlib
import json
import logging
import logging.config
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import orjson
from django.conf import settings

from chassis import exceptions
from chassis.imports import without
from chassis.observability import correlation, privacy, tracing

with without("rich", "greenlet"):  # several MiB in every process, for a look that we do not use
    import structlog
    from structlog.tracebacks import ExceptionDictTransformer

EventDict = MutableMapping[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

# Loggers that say the same for as long as something is down: one line a minute is enough.
REPETITIVE = ("opentelemetry", "librdkafka")

# Lowest levels of loggers that are noisy, or that show data: SQL comes with its parameters, 404s with their path.
LEVELS = {
    "django.db.backends": "WARNING",
    "django.request": "ERROR",
    "django.server": "ERROR",
    "asyncio": "WARNING",
    "urllib3": "WARNING",
}

_chain: list[Any] = []


def configure(config: dict[str, Any]) -> None:
    """Set up all logging of this process; Django's LOGGING_CONFIG. `config["level"]` is the lowest level."""
    level: str = config.get("level", "INFO")
    as_json = settings.LOG_FORMAT == "json"
    prepare, render = _processors(as_json=as_json)
    # In place, so that loggers made before this call follow as well.
    _chain[:] = [*prepare, *render]
    structlog.configure(
        processors=_chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=_Stream,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(_stdlib(level, prepare, render))
    if as_json:
        sys.excepthook = _uncaught
        threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def info_all(logger: str, event: str, rows: Iterable[EventDict]) -> None:
    """Write the same event once for each of `rows`, its fields, which must say their own request_id, trace_id and span_id.

    What `structlog.get_logger(logger).info(event, **row)` would write for each; for many rows at the fraction of the
    price. No field may have a name that is to be masked.
    """
    if not logging.root.isEnabledFor(logging.INFO):
        return
    if not (_chain and isinstance(_chain[-1], structlog.processors.JSONRenderer)):
        write = structlog.get_logger(logger).info
        for row in rows:
            write(event, **row)
        return
    time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    same = {"event": event, "logger": logger, "level": "info", "timestamp": time, "service": settings.SERVICE_NAME}
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
    return prepare, [console]


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
        "filters": {"seldom": {"()": Seldom}, "hearsay": {"()": Hearsay}},
        "handlers": {"line": {"()": _StandardError, "formatter": "line", "filters": ["seldom", "hearsay"]}},
        "root": {"level": level, "handlers": ["line"]},
        "loggers": {
            # Django and the servers come with handlers of their own: those go.
            **{name: dict(through) for name in ("django", "gunicorn.error", "gunicorn.access")},
            **{name: {**through, "level": lowest} for name, lowest in LEVELS.items()},
        },
    }


class _Stream:
    """Where structlog's own lines end: one write a line on whatever standard error is at that moment."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        # Nobody reads the log any more: no reason to fail the request that wrote it.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


class _StandardError(logging.StreamHandler[Any]):
    """Where the standard library's lines end: the same."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class Hearsay(logging.Filter):
    """Takes out of Django's lines about requests what the client wrote.

    Of one that is suspicious it leaves the logger's name, which says of what kind it is; of one that failed the exception,
    without the path.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Yes; without its text."""
        if record.name.startswith("django.security."):
            record.msg, record.args = "suspicious request", ()
            record.exc_info = record.exc_text = None
        elif record.name == "django.request":
            record.msg, record.args = "request failed", ()
        return True


class Seldom(logging.Filter):
    """Lets the same line of a REPETITIVE logger pass once in a while, and of Django's lines about answers only exceptions.

    `Service Unavailable: /path` is written when the request's id is gone already, and the access line has said it with it.
    """

    seconds = 60.0
    most_remembered = 500

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is to be written."""
        if record.name == "django.request" and not record.exc_info:
            return False
        if not record.name.startswith(REPETITIVE):
            return True
        # Addresses, durations and counts differ in lines that say the same.
        key = (record.name, re.sub(r"[\d.:]+", "#", record.getMessage())[:100])
        now = time.monotonic()
        if now - self._last.get(key, -self.seconds) < self.seconds:
            return False
        if len(self._last) >= self.most_remembered:
            self._last.clear()
        self._last[key] = now
        return True


def _identify(logger: Any, method: str, event: EventDict) -> EventDict:
    event["service"] = settings.SERVICE_NAME
    event.setdefault("request_id", correlation.current_request_id())
    if "trace_id" not in event:
        event["trace_id"], event["span_id"] = tracing.current_ids()
    return event


# Local variables are never shown: passwords and personal data live in them.
_transform = ExceptionDictTransformer(show_locals=False, max_frames=40)


def _exception_as_data(exc_info: ExcInfo) -> list[dict[str, Any]]:
    try:
        return _parts(exc_info)
    except Exception as error:  # noqa: BLE001  a line about an exception must not raise another
        why = f"(cannot be shown: {type(error).__name__})"
        return [{"type": exc_info[0].__name__, "message": why, "stack": []}]


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
    except Exception as error:  # noqa: BLE001  a line about an exception must not raise another
        text = f"{exc_info[0].__name__}: (cannot be shown: {type(error).__name__})"
    return privacy.scrub_error(text[-exceptions.MOST_READ :])


def _dumps(event: EventDict, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # orjson refuses integers over 64 bits and broken unicode; a log line is too precious for that.
        return json.dumps(event, default=repr, skipkeys=True)


def _coloured() -> bool:
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    if error is None or not issubclass(kind, Exception):
        sys.__excepthook__(kind, error or kind(), where)
        return
    structlog.get_logger("uncaught").critical("uncaught exception", exc_info=(kind, error, where))
