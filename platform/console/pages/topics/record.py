"""One record: key, headers, payload, schema, story, and what the consumer groups have done with it."""

from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from chassis.deadletters.store import RESOLVES
from chassis.kafka import names
from chassis.kafka.records import Record
from chassis.observability import correlation, tracing
from console import htmx, operators, payloads, system
from console.pages.topics import republish
from console.pages.topics.rows import moment, note

log = structlog.get_logger(__name__)


@require_safe
def show(request: HttpRequest, name: str, partition: int, offset: int) -> HttpResponse:
    """The record, without personal data."""
    return _page(request, system.current().topics.record(name, partition, offset), reveal=False)


@require_POST
def reveal(request: HttpRequest, name: str, partition: int, offset: int) -> HttpResponse:
    """The record with personal data, which is logged."""
    record = system.current().topics.record(name, partition, offset)
    log_revealed(request, record)
    return _page(request, record, reveal=True)


@require_POST
def value(request: HttpRequest, name: str, partition: int, offset: int) -> HttpResponse:
    """The payload as a file, byte for byte, which is logged."""
    record = system.current().topics.record(name, partition, offset)
    log_revealed(request, record)
    response = HttpResponse(record.value or b"", content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{name}-{partition}-{offset}.bin"'
    return response


def log_revealed(request: HttpRequest, record: Record) -> None:
    """Log who saw the personal data of a record."""
    log.info("personal data revealed", by=operators.name_of(request), what="record", **record.log_fields())


def _page(request: HttpRequest, record: Record, *, reveal: bool) -> HttpResponse:
    name = record.topic
    trace_id = tracing.ids_of(record.header("traceparent"))[0]
    context = {
        "record": record,
        "at": moment(record.timestamp_ms),
        "key": payloads.key_text(record.key),
        "key_filter": None if record.key is None else payloads.key_filter(record.key),
        "payload": payloads.shown(record.value, reveal=reveal),
        "headers": payloads.header_rows(record.headers, reveal=reveal),
        "trace_id": trace_id,
        "story": system.current().stories.summary(trace_id) if trace_id else None,
        "request_id": request_id if correlation.sane(request_id := record.header("requestId") or "") else "",
        "note": note(record),
        "letter": _letter(record) if names.is_dead_letter_topic(name) else None,
        "revealed": reveal,
    }
    template = "console/topics/content.html" if htmx.wants_part(request) else "console/topics/record.html"
    return render(request, template, context)


def _letter(record: Record) -> dict[str, Any]:
    """Where a record of a dead-letter topic comes from."""
    source, group = names.dead_lettered(record.topic)
    resolved = record.header(RESOLVES)
    original = (record.header("deadletter-partition") or "", record.header("deadletter-offset") or "")
    is_known = all(one.isascii() and one.isdigit() and len(one) < 19 for one in original)
    letter_id = resolved if resolved is not None else record.header("deadletter-id") or ""
    return {
        "id": letter_id if correlation.sane(letter_id) else "",
        "service": names.service(group),
        "source": source,
        "partition": int(original[0]) if is_known else None,
        "offset": int(original[1]) if is_known else None,
        "resolves": resolved is not None,
    }


@require_safe
def effects(request: HttpRequest, name: str, partition: int, offset: int) -> HttpResponse:
    """What the groups have done with the record, and whether its payload fits its schema: a part of the page, loaded after it."""
    console = system.current()
    record = console.topics.record(name, partition, offset)
    overview = console.cluster.overview()
    groups: list[dict[str, Any]] = [
        {"group": group, "position": position, "passed": position.has_passed(offset)}
        for group in overview.readers.get(name, ())
        if (position := group.position(name, partition))
    ]
    is_letter = names.is_dead_letter_topic(name)
    source = names.dead_lettered(name)[0] if is_letter else name
    inboxes = {} if is_letter else republish.inboxes(record, [one["group"].name for one in groups])
    for one in groups:
        one["inbox"] = inboxes.get(one["group"].name)
    context = {
        "record": record,
        "overview": overview,
        "groups": groups,
        "checked": None if record.raw_header(RESOLVES) is not None else console.information.check(record, source),
        "is_letter": is_letter,
        "offer": None if is_letter else republish.offer(record, inboxes, overview),
    }
    return render(request, "console/topics/effects.html", context)
