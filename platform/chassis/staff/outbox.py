"""`GET /staff/outbox`: rows of the outbox, newest first, and one row with its payload and headers."""

from typing import Any

import structlog
from django.conf import settings
from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from chassis.events import masking
from chassis.kafka import names
from chassis.observability import privacy, tracing
from chassis.outbox import gauges
from chassis.outbox.headers import headers_from_json
from chassis.staff.access import StaffView, who
from chassis.staff.parameters import Parameters, read
from chassis.staff.tables import estimated_rows, reading
from chassis.story.database import moment

log = structlog.get_logger(__name__)

SEARCHED = 250_000
"""How many rows one request searches for values without an index; `next_before` continues after them."""

LAST = 2**63 - 1
"""The largest position."""

STATES = {
    "unsent": "sent_at IS NULL AND parked_at IS NULL",
    "parked": "sent_at IS NULL AND parked_at IS NOT NULL AND discarded_at IS NULL",
    "discarded": "sent_at IS NULL AND parked_at IS NOT NULL AND discarded_at IS NOT NULL",
    "sent": "sent_at IS NOT NULL",
    "all": "true",
}
INDEXED = frozenset({"unsent", "parked", "discarded"})
"""The states whose rows an index finds, wherever they are in the table."""

COLUMNS = """
position, event_id::text, topic, left(key, 200), left(request_id, 128),
left(jsonb_path_query_first(headers, 'strict $[*] ? (@[0] == "traceparent")', jsonb_build_object(), true) ->> 1, 100),
extract(epoch FROM created_at)::float8, extract(epoch FROM sent_at)::float8, extract(epoch FROM parked_at)::float8,
left(parked_reason, 1000), extract(epoch FROM discarded_at)::float8, left(discarded_by, 150),
coalesce(octet_length(payload), 0)
"""
WINDOW = """
SELECT coalesce(least(max(position) + 1, %(before)s), 0), coalesce(min(position), 0) FROM outbox
"""
LIST = f"""
SELECT {COLUMNS} FROM outbox
WHERE position < %(before)s AND position >= %(first)s AND {{state}} {{filters}}
ORDER BY position DESC LIMIT %(rows)s
"""  # noqa: S608  constants
FILTERS = {
    "topic": "AND topic = ANY(%(topics)s)",
    "key": "AND key = %(key)s",
    "request_id": "AND request_id = %(request_id)s",
    "event_id": "AND event_id = %(event_id)s",
}
ONE = f"""
SELECT {COLUMNS}, substring(payload FROM 1 FOR {masking.LONGEST}), CASE WHEN octet_length(headers::text) <= {2 * masking.LONGEST}
THEN headers::text END, raw_key FROM outbox WHERE position = %s
"""  # noqa: S608  constants


class OutboxParameters(Parameters):
    """The filters of the list, and where its page begins: after the row at position `before`."""

    state = serializers.ChoiceField(choices=list(STATES), default="all")
    topic = serializers.CharField(required=False, max_length=249)
    key = serializers.CharField(required=False, max_length=1_000, trim_whitespace=False)
    request_id = serializers.CharField(required=False, max_length=128)
    event_id = serializers.UUIDField(required=False)
    before = serializers.IntegerField(min_value=1, max_value=LAST, default=LAST)
    limit = serializers.IntegerField(min_value=1, max_value=200, default=50)


class RevealParameters(Parameters):
    """Whether to show personal data."""

    reveal = serializers.BooleanField(default=False)


class OutboxView(StaffView):
    """Rows of the outbox, newest first, with the numbers of waiting and parked rows."""

    permissions = {"GET": ("messaging.view_outboxevent",)}

    def get(self, request: Request) -> Response:
        """A page. `next_before` is where the next page begins; null at the end."""
        asked = read(OutboxParameters, request)
        with reading() as cursor:
            rows, following = _page(cursor, asked)
            return Response({"results": rows, "next_before": following, "counts": counts(cursor)})


class OutboxRowView(StaffView):
    """One row of the outbox, with payload and headers."""

    def required_permissions(self, request: Request) -> tuple[str, ...]:
        """Personal data requires a permission of its own."""
        return reveal_permissions(request, "outboxevent")

    def get(self, request: Request, position: int) -> Response:
        """The row. With `?reveal=1` with personal data, which is logged."""
        reveal: bool = read(RevealParameters, request)["reveal"]
        with reading() as cursor:
            cursor.execute(ONE, [min(position, LAST)])
            if (found := cursor.fetchone()) is None:
                raise Http404
        *columns, payload, headers, raw_key = found
        row = _row(*columns)
        if reveal:
            log.info(
                "personal data revealed",
                by=who(request),
                what="outbox row",
                position=position,
                event_id=row["event_id"],
            )
        return Response(
            {
                **row,
                "raw_key": None if raw_key is None else bytes(raw_key).hex()[:400],
                "payload": masking.payload(
                    None if payload is None else bytes(payload), size=columns[-1], reveal=reveal
                ),
                "headers": _headers(headers, reveal=reveal),
            }
        )


def reveal_permissions(request: Request, model: str) -> tuple[str, ...]:
    """The permissions to see one event of a model: one to see it, and another one to see personal data in it."""
    view = f"messaging.view_{model}"
    return (view, f"messaging.reveal_{model}") if request.query_params.get("reveal", "0") != "0" else (view,)


def counts(cursor: Any) -> dict[str, Any]:
    """The numbers of rows as the gauges measure them: exact up to 10,000, then estimated."""
    limit = {"counted": gauges.COUNTED}
    cursor.execute(gauges.WAITING, limit)
    (unsent,) = cursor.fetchone()
    cursor.execute(gauges.PARKED, limit)
    (parked,) = cursor.fetchone()
    return {
        "unsent": unsent,
        "parked": parked,
        "oldest_unsent_seconds": gauges.oldest_age(cursor),
        "rows_estimate": estimated_rows(cursor, "outbox"),
    }


def _page(cursor: Any, asked: dict[str, Any]) -> tuple[list[dict[str, Any]], int | None]:
    filters = [condition for name, condition in FILTERS.items() if name in asked]
    topic = asked.get("topic", "")
    values = {**asked, "topics": [topic, f"{settings.KAFKA_PREFIX}{topic}"], "rows": asked["limit"] + 1, "first": 0}
    lowest = 0
    if asked["state"] not in INDEXED and "event_id" not in asked:
        cursor.execute(WINDOW, values)
        end, lowest = cursor.fetchone()
        values["first"] = max(0, end - SEARCHED)
    cursor.execute(LIST.format(state=STATES[asked["state"]], filters=" ".join(filters)), values)
    found = cursor.fetchall()
    rows = [_row(*columns) for columns in found[: asked["limit"]]]
    if len(found) > asked["limit"]:
        return rows, rows[-1]["position"]
    return rows, values["first"] if values["first"] > lowest else None


def _row(
    position: int, event_id: str, topic: str, key: str | None, request_id: str, traceparent: str | None,
    created: float | None, sent: float | None, parked: float | None, reason: str | None,
    discarded: float | None, discarded_by: str | None, size: int,
) -> dict[str, Any]:  # fmt: skip
    state = (
        "sent"
        if sent is not None
        else "discarded"
        if discarded is not None
        else "unsent"
        if parked is None
        else "parked"
    )
    return {
        "position": position,
        "state": state,
        "event_id": event_id,
        "topic": topic.removeprefix(settings.KAFKA_PREFIX),
        "is_dead_letter": names.is_dead_letter_topic(topic),
        "key": key,
        "request_id": request_id,
        "trace_id": tracing.ids_of(traceparent)[0],
        "created_at": moment(created),
        "sent_at": moment(sent),
        "parked_at": moment(parked),
        "parked_reason": privacy.scrub(reason or ""),
        "discarded_at": moment(discarded),
        "discarded_by": discarded_by or "",
        "payload_bytes": size,
    }


def _headers(text: str | None, *, reveal: bool) -> list[list[Any]] | None:
    """The headers; None if they are too large, or were not written by this code."""
    try:
        return None if text is None else masking.headers(headers_from_json(text), reveal=reveal)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
