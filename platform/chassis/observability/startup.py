"""Errors outside of Django's logging, in the same JSON form as all other log lines: start-up errors and uncaught exceptions.

A process can end before Django has configured its logging: by an invalid variable, an invalid declaration, a failed check, or
an import that fails. `install` is therefore called first of all, by manage.py, by the WSGI and ASGI entry points and by
gunicorn's configuration. It uses only the standard library, since anything else may be what cannot be imported. A person
at a terminal gets Python's own output.
"""

import contextlib
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn

from chassis import exceptions
from chassis.observability import privacy

LOGGER = "startup"
FAILED = "process failed"
MOST_FRAMES = 40

Write = Callable[[str, BaseException | None], None]
"""Writes a critical line with this text, about this exception."""


def is_json() -> bool:
    """Whether the environment asks for logs as JSON; before the settings are read, which decide it afterwards."""
    chosen = os.environ.get("LOG_FORMAT", "").strip().lower()
    if chosen in ("json", "console"):
        return chosen == "json"
    return os.environ.get("ENVIRONMENT", "").strip() != "development"


def writes_json() -> bool:
    """Whether this process writes its errors as JSON: not to a terminal, where a person reads them."""
    return is_json() and not (sys.stderr and sys.stderr.isatty())


def install() -> None:
    """Log uncaught exceptions and warnings of this process as JSON, if that is their format."""
    if not writes_json():
        return
    set_hooks(_write_line)
    logging.captureWarnings(True)
    if not logging.root.handlers:  # until Django configures logging
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter())
        logging.root.addHandler(handler)


def set_hooks(write: Write) -> None:
    """Write uncaught exceptions, of all threads and of destructors, with this function."""

    def uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
        if not issubclass(kind, SystemExit):  # with which a thread ends itself
            write("uncaught exception", (error or kind()).with_traceback(where))

    sys.excepthook = uncaught
    threading.excepthook = lambda args: uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: uncaught(args.exc_type, args.exc_value, args.exc_traceback)


@contextmanager
def exits_reported() -> Iterator[None]:
    """Log the message with which the body exits, such as that of an invalid configuration, which Python prints as it is."""
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.code, str) or not writes_json():
            raise
        fail(end.code)


@contextmanager
def reported() -> Iterator[None]:
    """Log what ends the body, an exception or an exit with a message, and exit with status 1."""
    with exits_reported():
        try:
            yield
        except Exception as error:
            if not writes_json():
                raise
            _write_line(FAILED, error)
            raise SystemExit(1) from None


def fail(reason: str, status: int = 1) -> NoReturn:
    """Log why this process cannot start or continue, and exit with this status."""
    _write_line(FAILED, None, reason=reason)
    raise SystemExit(status) from None


class _Formatter(logging.Formatter):
    """Formats the standard library's lines until Django configures logging."""

    def format(self, record: logging.LogRecord) -> str:
        """A line."""
        error = record.exc_info[1] if record.exc_info else None
        return _line(record.getMessage(), error, level=record.levelname.lower(), logger=record.name)


def _write_line(event: str, error: BaseException | None, **more: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error is closed
        sys.stderr.write(_line(event, error, **more) + "\n")
        sys.stderr.flush()


def _line(
    event: str, error: BaseException | None, *, level: str = "critical", logger: str = LOGGER, **more: str
) -> str:
    fields: dict[str, Any] = {
        **{name: privacy.scrub(text) for name, text in more.items()},
        "event": privacy.scrub(event),
        "logger": logger,
        "level": level,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "service": service_name(),
        "request_id": "",
        "trace_id": "",
        "span_id": "",
    }
    if error is not None:
        fields["exception"] = _chain(error)
    return json.dumps(fields)


def service_name() -> str:
    """The service's name, from its settings module or gunicorn's command line; empty if neither names it."""
    named = re.search(r"--settings[= ]\S*?(\w+)(?: |$)", " ".join(sys.argv))
    if module := named[1] if named else os.environ.get("DJANGO_SETTINGS_MODULE", "").rpartition(".")[2]:
        return module
    return next((one.partition(".")[0] for one in sys.argv[1:] if one.partition(":")[0].endswith(".wsgi")), "")


def _chain(error: BaseException) -> list[dict[str, Any]]:
    """An exception and its causes, the last one first: types, messages and places, but no values."""
    found: list[dict[str, Any]] = []
    current: BaseException | None = error
    while current is not None and len(found) < 10:
        frames = traceback.extract_tb(current.__traceback__, MOST_FRAMES)
        found.append(
            {
                "type": type(current).__name__,
                "message": privacy.scrub_error(exceptions.message(current)),
                "stack": [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames],
            }
        )
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found
