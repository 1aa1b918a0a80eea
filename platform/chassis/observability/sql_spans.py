"""A CLIENT span for each statement of a sampled request or event; nothing is wrapped for others.

Statements are seen by Django's `execute_wrapper`, parameters are not recorded.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from django.db import DatabaseError, connections
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from chassis.observability import tracing
from chassis.observability.trace_context import TraceContext, new_span_id

_OPERATION = re.compile(
    r"\s*(?:/\*.*?\*/\s*)*(?:SET\b[^;]*;\s*)*(?:WITH\b.*?\)\s*(?=SELECT|INSERT|UPDATE|DELETE))?(\w+)",
    re.DOTALL | re.IGNORECASE,
)
"""The first word after comments, settings and common table expressions."""
_TABLE = re.compile(
    r"""\b(?:(?:INTO|UPDATE|COPY)\s+"?(\w+)|(?:FROM|JOIN)\s+(?:ONLY\s+)?"?(\w+)\b"?(?!\s*\())""", re.IGNORECASE
)
"""The first table; not a function, such as `FROM unnest(…)`."""
LONGEST = 2_000
"""Maximum number of characters of a recorded statement."""


@contextmanager
def recorded(alias: str) -> Iterator[None]:
    """Record the statements that the body executes on this database, in this thread."""
    with connections[alias].execute_wrapper(_execute):
        yield


@contextmanager
def statement(alias: str, sql: str) -> Iterator[None]:
    """Record a statement that does not pass through Django's cursor, such as COPY, if the current trace is sampled."""
    if not tracing.is_sampled():
        yield
        return
    span = _begin(alias, sql)
    try:
        yield
    except BaseException as error:
        _fail(span, error)
        raise
    finally:
        span.end()


def _execute(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    if not tracing.is_sampled():
        return execute(sql, params, many, context)
    text = sql if isinstance(sql, str) else sql.as_string(context["cursor"].cursor)
    span = _begin(context["connection"].alias, text)
    try:
        return execute(sql, params, many, context)
    except DatabaseError as error:
        _fail(span, error)
        raise
    finally:
        span.end()


def record(alias: str, sql: str, parent: TraceContext, begun: int, ended: int) -> None:
    """Record a statement that has succeeded, of a sampled trace; times in nanoseconds since the epoch."""
    summary, attributes = _description(alias, sql)
    above = parent.to_span_context(is_remote=False)
    span = tracing.ended(
        summary,
        SpanKind.CLIENT,
        trace_id=above.trace_id,
        span_id=int(new_span_id(), 16),
        parent=above,
        begun=begun,
        ended=ended,
        attributes=attributes,
    )
    tracing.emit(span)


def _begin(alias: str, sql: str) -> Span:
    summary, attributes = _description(alias, sql)
    return tracing.tracer(__name__).start_span(summary, kind=SpanKind.CLIENT, attributes=attributes)


def _description(alias: str, sql: str) -> tuple[str, dict[str, Any]]:
    """The name and the attributes of a statement's span."""
    summary, operation, table = _summary(sql)
    attributes = {
        "db.system.name": "postgresql",
        "db.operation.name": operation,
        "db.query.summary": summary,
        "db.query.text": sql[:LONGEST],
        **_place(alias),
    }
    if table:
        attributes["db.collection.name"] = table
    return summary, attributes


def _fail(span: Span, error: BaseException) -> None:
    """Note which kind of error it was; the exception itself is recorded once, where it ends the work."""
    state = getattr(error.__cause__, "sqlstate", None) or getattr(error, "sqlstate", None)
    span.set_attribute("error.type", state or type(error).__name__)
    if state:
        span.set_attribute("db.response.status_code", state)
    span.set_status(Status(StatusCode.ERROR))


@lru_cache(512)
def _summary(sql: str) -> tuple[str, str, str]:
    """The summary of a statement (its operation and first table), the operation, and the table."""
    found, first = _OPERATION.match(sql), _TABLE.search(sql)
    operation = found[1].upper() if found else ""
    table = (first[1] or first[2]) if first else ""
    return f"{operation} {table}".strip() or "postgresql", operation, table


@lru_cache(8)
def _place(alias: str) -> dict[str, Any]:
    settings = connections[alias].settings_dict
    place: dict[str, Any] = {"db.namespace": settings["NAME"]}
    if settings["HOST"]:
        place["server.address"] = settings["HOST"]
    if str(settings["PORT"]).isdigit():
        place["server.port"] = int(settings["PORT"])
    return place
