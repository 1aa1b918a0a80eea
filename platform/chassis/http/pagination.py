"""Cursor pagination, newest first: a cursor identifies a row, so that no row is skipped or repeated when rows are added."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from django.db.models import Q
from django.template import loader
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR = re.compile(r"^[on][0-9a-f]{46}\Z")
"""The direction (older or newer), 14 hexadecimal digits of microseconds (until the year 4253), 32 of the id. Cursors are opaque
to clients, but every text of this form is valid, so that the OpenAPI document can describe what is accepted."""

LIMIT = re.compile(r"[0-9]{1,4}")

NEWEST_FIRST = ("-created_at", "-id")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a list that is ordered by (created_at, id): after this row, in the direction of older or newer ones."""

    created_at: datetime
    id: uuid.UUID
    newer: bool

    @classmethod
    def after(cls, row: Any, *, newer: bool) -> Self:
        """The position after `row`."""
        return cls(row.created_at, row.id, newer)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Decode a text that CURSOR matches."""
        created_at = EPOCH + timedelta(microseconds=int(text[1:15], 16))
        return cls(created_at, uuid.UUID(text[15:]), text[0] == "n")

    def encode(self) -> str:
        """The cursor as a token for a URL."""
        microseconds = (self.created_at - EPOCH) // timedelta(microseconds=1)
        return f"{'n' if self.newer else 'o'}{microseconds:014x}{self.id.hex}"

    def filter(self) -> Q:
        """The rows after this position."""
        side = "gt" if self.newer else "lt"
        # The first condition looks redundant, but lets PostgreSQL start in the middle of the index.
        return Q(**{f"created_at__{side}e": self.created_at}) & (
            Q(**{f"created_at__{side}": self.created_at}) | Q(**{f"id__{side}": self.id})
        )


def page(results: Any, following: str | None, previous: str | None) -> dict[str, Any]:
    """A page of a list, with the URLs of its neighbours."""
    return {"results": results, "next": following, "previous": previous}


class CursorPagination(BasePagination):
    """Accepts `?limit=` and `?cursor=`, and returns `{"results": […], "next": url|null, "previous": url|null}`.

    For models with `created_at` and a UUID `id`. An invalid parameter is rejected with 400.
    """

    default_limit = 50
    max_limit = 100
    template = "rest_framework/pagination/previous_and_next.html"
    display_page_controls = False

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        """The rows of the requested page of a QuerySet."""
        self.base_url = request.build_absolute_uri()
        limit, cursor = self._parse(request.query_params)
        newer = cursor is not None and cursor.newer
        order = ("created_at", "id") if newer else NEWEST_FIRST
        rows = list((queryset.filter(cursor.filter()) if cursor else queryset).order_by(*order)[: limit + 1])
        more = len(rows) > limit
        rows = rows[:limit]
        if newer:
            rows.reverse()
        self.next = Cursor.after(rows[-1], newer=False) if rows and (more or newer) else None
        self.previous = Cursor.after(rows[0], newer=True) if rows and cursor and (more or not newer) else None
        # The browsable API shows its buttons only if there is another page.
        self.display_page_controls = bool(self.next or self.previous)
        return rows

    def _parse(self, parameters: Mapping[str, str]) -> tuple[int, Cursor | None]:
        """Parse the parameters. Raises ValidationError with all errors."""
        limit = parameters.get("limit", str(self.default_limit))
        cursor = parameters.get("cursor")
        errors = {}
        if not LIMIT.fullmatch(limit) or not 1 <= int(limit) <= self.max_limit:
            errors["limit"] = [f"Must be an integer from 1 to {self.max_limit}."]
        if cursor is not None and not CURSOR.match(cursor):
            errors["cursor"] = ["Not a cursor of this list: use the URLs in `next` and `previous` unchanged."]
        if errors:
            raise ValidationError(errors)
        return int(limit), None if cursor is None else Cursor.decode(cursor)

    def _link(self, cursor: Cursor | None) -> str | None:
        return None if cursor is None else replace_query_param(self.base_url, "cursor", cursor.encode())

    def get_paginated_response(self, data: Any) -> Response:
        """The page, with links to the next and the previous one."""
        return Response(page(data, self._link(self.next), self._link(self.previous)))

    def get_results(self, data: Any) -> Any:
        """The rows of a response, for the browsable API."""
        return data["results"]

    def to_html(self) -> str:
        """The buttons of the browsable API."""
        context = {"previous_url": self._link(self.previous), "next_url": self._link(self.next)}
        return loader.get_template(self.template).render(context)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The response in the OpenAPI document."""
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {
                "results": schema,
                "next": {
                    **link,
                    "description": "URL of the page with older ones; null on the last page.",
                    "example": None,
                },
                "previous": {
                    **link,
                    "description": "URL of the page with newer ones; null on the first page.",
                    "example": None,
                },
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """The parameters in the OpenAPI document."""
        return [
            {
                "name": "limit",
                "in": "query",
                "description": "The maximum number of results per page.",
                "schema": {"type": "integer", "minimum": 1, "maximum": self.max_limit, "default": self.default_limit},
            },
            {
                "name": "cursor",
                "in": "query",
                "description": "An opaque position in the list: follow the URLs in `next` and `previous`.",
                "schema": {"type": "string", "pattern": "^[on][0-9a-f]{46}$"},
            },
        ]
