"""What the service's database contains about a story: rows of its own state, of the outbox and of the inbox."""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import orjson
from django.conf import settings
from django.db import connections

from chassis.observability import privacy, tracing
from chassis.story.facts import DEAD_LETTERS, InboxRow, Letter, OutboxRow, Question, Row, uuids

SEARCHED = 1_000_000
"""How many of the newest rows are searched by key, request and trace, for which the tables have no index."""

MOST = 200
"""Maximum number of rows of each table in a story."""

OUTBOX = """
SELECT position, event_id::text, topic, left(key, 200), request_id, headers::text,
       extract(epoch FROM created_at)::float8, extract(epoch FROM sent_at)::float8, extract(epoch FROM parked_at)::float8,
       parked_reason, extract(epoch FROM discarded_at)::float8, discarded_by,
       CASE WHEN sent_at IS NULL AND parked_at IS NULL THEN (
           SELECT min(p.position) FROM outbox AS p
           WHERE left(p.topic, 249) = left(o.topic, 249) AND left(p.key, 200) = left(o.key, 200)
           AND p.topic = o.topic AND p.key = o.key AND p.sent_at IS NULL AND p.parked_at IS NOT NULL
           AND p.discarded_at IS NULL AND p.position < o.position) END
FROM outbox AS o
WHERE event_id = ANY(%(events)s::uuid[])
   OR (position > (SELECT max(position) FROM outbox) - %(searched)s
       AND (key = ANY(%(keys)s) OR request_id = ANY(%(requests)s) OR headers @> ANY(%(traces)s::jsonb[])))
ORDER BY position LIMIT %(most)s
"""
INBOX = """
SELECT event_id, topic, left(key, 200), request_id, extract(epoch FROM consumed_at)::float8
FROM inbox WHERE event_id = ANY(%(events)s)
UNION
SELECT event_id, topic, left(key, 200), request_id, extract(epoch FROM consumed_at)::float8
FROM (SELECT * FROM inbox ORDER BY consumed_at DESC LIMIT %(searched)s) AS newest
WHERE key = ANY(%(keys)s) OR request_id = ANY(%(requests)s)
ORDER BY 5 LIMIT %(most)s
"""

_TRACE = re.compile(r"[0-9a-f]{32}", re.ASCII)


def rows(question: Question) -> tuple[Row, ...]:
    """The rows of the service's own state: those that `rows` of its story.py returns for these ids."""
    module = f"{settings.SERVICE_NAME}.story"
    if find_spec(module) is None:
        return ()
    found: Iterable[Row] = import_module(module).rows(question.all_keys)
    return tuple(found)


def outbox(question: Question) -> tuple[OutboxRow, ...]:
    """The rows of the outbox."""
    traces = [orjson.dumps([["traceId", one]]).decode() for one in question.ids if _TRACE.fullmatch(one)]
    return tuple(
        _outbox_row(*row)
        for row in _select(OUTBOX, question, [str(one) for one in uuids(question.all_event_ids)], traces)
    )


def inbox(question: Question) -> tuple[InboxRow, ...]:
    """The rows of the inbox."""
    found = _select(INBOX, question, list(question.all_event_ids), [])
    return tuple(
        InboxRow(event_id=event_id[:200], topic=topic, key=key, request_id=request_id[:128], at=moment(at))
        for event_id, topic, key, request_id, at in found
    )


def _select(query: str, question: Question, events: list[str], traces: list[str]) -> list[Any]:
    values: dict[str, Any] = {
        "keys": list(question.all_keys),
        "requests": list(question.all_request_ids),
        "events": events,
        "traces": traces,
        "searched": SEARCHED,
        "most": MOST,
    }
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


def _outbox_row(
    position: int, event_id: str, topic: str, key: str | None, request_id: str, headers: str,
    created: float | None, sent: float | None, parked: float | None, reason: str | None,
    discarded: float | None, discarded_by: str | None, behind: int | None,
) -> OutboxRow:  # fmt: skip
    logical = topic.removeprefix(settings.KAFKA_PREFIX)
    header = _headers(headers)
    return OutboxRow(
        position=position,
        event_id=event_id,
        topic=logical,
        key=key,
        request_id=request_id[:128],
        trace_id=tracing.ids_of(header.get("traceparent"))[0],
        created_at=moment(created),
        sent_at=moment(sent),
        parked_at=moment(parked),
        parked_reason=" ".join(privacy.scrub(reason or "").split()),
        discarded_at=moment(discarded),
        discarded_by=discarded_by or "",
        behind=behind,
        letter=letter(header) if logical.endswith(DEAD_LETTERS) else None,
    )


def _headers(text: str) -> dict[str, str]:
    try:
        return {name: value for name, value in orjson.loads(text) if isinstance(value, str)}
    except (ValueError, TypeError):  # a row that was not written by this code may contain anything
        return {}


def letter(header: dict[str, str]) -> Letter:
    """The dead letter that these headers describe."""

    def own(name: str) -> str:
        return " ".join(privacy.scrub(header.get(f"deadletter-{name}", "")).split())[:300]

    group = own("group").removeprefix(settings.KAFKA_PREFIX)
    topic = own("topic").removeprefix(settings.KAFKA_PREFIX)
    return Letter(
        id=own("id"), group=group, reason=own("reason"), error=own("error"), attempts=own("attempts"),
        topic=topic, partition=own("partition"), offset=own("offset"),
    )  # fmt: skip


def moment(seconds: float | None) -> datetime | None:
    """A time from seconds since the epoch; None if there is none, or it is out of range."""
    if seconds is None or not math.isfinite(seconds) or not 0 <= seconds < 253_402_300_800:
        return None
    return datetime.fromtimestamp(seconds, UTC)
