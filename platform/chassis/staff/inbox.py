"""`GET /staff/inbox`: events whose effects are committed, newest first."""

import re
from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from chassis.staff.access import StaffView
from chassis.staff.parameters import Parameters, read
from chassis.staff.tables import estimated_rows, reading
from chassis.story.database import moment

SEARCHED = 1_000_000
"""How many of the newest rows are searched for values without an index."""

CURSOR = re.compile(r"([0-9]{1,17})-([0-9]{1,7})", re.ASCII)
"""Microseconds since the epoch, and how many rows of that time were shown: the rows of a batch have the same time."""

FILTERS = {
    "topic": "AND topic = ANY(%(topics)s)",
    "key": "AND key = %(key)s",
    "request_id": "AND request_id = %(request_id)s",
    "event_id": "AND event_id = %(event_id)s",
}
BEFORE = "AND consumed_at <= to_timestamp(0) + %(at)s * interval '1 microsecond'"
LIST = """
SELECT left(event_id, 200), left(source, 200), topic, left(key, 200), left(request_id, 128),
       extract(epoch FROM consumed_at)::float8, (extract(epoch FROM consumed_at) * 1000000)::bigint
FROM (SELECT * FROM inbox WHERE isfinite(consumed_at) {before} ORDER BY consumed_at DESC LIMIT %(searched)s) AS newest
WHERE true {filters} ORDER BY consumed_at DESC, event_id, source, topic OFFSET %(skip)s LIMIT %(rows)s
"""


class InboxParameters(Parameters):
    """The filters of the list, and where its page begins."""

    topic = serializers.CharField(required=False, max_length=249)
    key = serializers.CharField(required=False, max_length=1_000, trim_whitespace=False)
    request_id = serializers.CharField(required=False, max_length=128)
    event_id = serializers.CharField(required=False, max_length=200, trim_whitespace=False)
    before = serializers.RegexField(rf"^{CURSOR.pattern}\Z", required=False, max_length=25)
    limit = serializers.IntegerField(min_value=1, max_value=200, default=50)


class InboxView(StaffView):
    """Rows of the inbox, newest first. A filter searches the newest million rows."""

    permissions = {"GET": ("messaging.view_inboxevent",)}

    def get(self, request: Request) -> Response:
        """A page. `next_before` is where the next page begins; null at the end."""
        asked = read(InboxParameters, request)
        with reading() as cursor:
            rows, following = _page(cursor, asked)
            counts = {"rows_estimate": estimated_rows(cursor, "inbox")}
            return Response({"results": rows, "next_before": following, "counts": counts})


def _page(cursor: Any, asked: dict[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
    filters = [condition for name, condition in FILTERS.items() if name in asked]
    topic = asked.get("topic", "")
    at, skip = map(int, asked.get("before", "0-0").split("-"))
    values = {
        **asked, "topics": [topic, f"{settings.KAFKA_PREFIX}{topic}"], "at": at, "skip": skip,
        "rows": asked["limit"] + 1, "searched": SEARCHED,
    }  # fmt: skip
    cursor.execute(LIST.format(before=BEFORE if "before" in asked else "", filters=" ".join(filters)), values)
    found = cursor.fetchall()
    shown = found[: asked["limit"]]
    following = None
    if len(found) > asked["limit"]:
        last = shown[-1][-1]
        same = sum(row[-1] == last for row in shown)
        following = f"{last}-{same + (skip if last == at else 0)}"
    return [_row(*row) for row in shown], following


def _row(event_id: str, source: str, topic: str, key: str, request_id: str, at: float | None, _: int) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "source": source,
        "topic": topic.removeprefix(settings.KAFKA_PREFIX),
        "key": key,
        "request_id": request_id,
        "consumed_at": moment(at),
    }
