"""How views are read without REST framework: one object by its key, or the newest of a list. See plain_reads.py.

A view is left out if anything about it could make a read differ: a method that it overrides, permissions, authentication,
throttles, filters, a decorator, or a serializer whose fields need the request.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DatabaseError
from django.urls import URLPattern
from rest_framework import mixins

from chassis import json
from chassis.database.prepared import ByKey, FirstRows
from chassis.http import pagination, serializers
from chassis.http.conditions import ConditionalViewSet, row_by_key

DECLARED = frozenset(
    {
        "__dict__", "__doc__", "__module__", "__orig_bases__", "__parameters__", "__weakref__",
        "__annotations__", "__firstlineno__", "__static_attributes__",  # from Python 3.13 on, every class has the last two
        "__annotate_func__", "__annotations_cache__", "__conditional_annotations__",  # from Python 3.14 on
        "lookup_field", "parser_classes", "queryset", "schema", "serializer_class",
    }
)  # fmt: skip
"""The attributes of a view that are used here as they are, or that take no part in a read."""

ROUTE_ARGUMENTS = frozenset({"basename", "detail", "description", "name", "suffix"})
"""What a router passes to a view set; none of it takes part in a read."""

Link = tuple[str, str]
"""What stands before and after the cursor in the URL of the next page."""

NO_LINK: Link = ("", "")

FAILURES = (DatabaseError, TypeError, ValueError)
"""What a read may raise. Then the usual way is taken, and answers with an error."""


class Representation(NamedTuple):
    """JSON, the time of its last change, if it is known, and the statement that read it, with its times in nanoseconds."""

    body: bytes
    modified: datetime | None
    sql: str
    begun: int
    ended: int


class OneObject(NamedTuple):
    """Reads the object with a key."""

    route: str
    rows: ByKey
    represent: Callable[[Any], Any]

    def accepts(self, query: str) -> bool:
        """Whether the query is one that is answered here."""
        return not query

    def link(self, body: bytes) -> Link | None:
        """What `read` needs of an earlier response; None if it is not there."""
        return NO_LINK

    def read(self, key: str, query: str, link: Link) -> Representation | None:
        """The object; None if there is none, or if it cannot be read."""
        try:
            begun = time.time_ns()
            found = self.rows.row(key)
            ended = time.time_ns()
            return Representation(json.dumps(self.represent(found)), found.modified_at, self.rows.sql, begun, ended)
        except (ObjectDoesNotExist, ValidationError, *FAILURES):
            return None


class FirstPage(NamedTuple):
    """Reads the newest objects of a list."""

    route: str
    rows: Callable[[int], FirstRows]
    represent: Callable[[Any], Any]

    def accepts(self, query: str) -> bool:
        """Whether the query is one that is answered here."""
        return _limit(query) > 0

    def link(self, body: bytes) -> Link | None:
        """What `read` needs of an earlier response; None if it is not there."""
        found = _CURSOR.split(json.loads(body)["next"] or "")
        return (found[0], found[1]) if len(found) == 2 else None

    def read(self, key: str, query: str, link: Link) -> Representation | None:
        """The page; None if it cannot be read."""
        limit = _limit(query)
        reader = self.rows(limit + 1)
        try:
            begun = time.time_ns()
            rows = reader.get()
            ended = time.time_ns()
            following = pagination.Cursor.after(rows[limit - 1], newer=False).encode() if len(rows) > limit else ""
            results = list(map(self.represent, rows[:limit]))
            page = pagination.page(results, link[0] + following + link[1] if following else None, None)
            return Representation(json.dumps(page), None, reader.sql, begun, ended)
        except FAILURES:
            return None


Read = OneObject | FirstPage

_CURSOR = re.compile(r"[on][0-9a-f]{46}")
_LIMIT = re.compile(r"limit=([0-9]{1,3})")
_KEYED = re.compile(r"(?P<prefix>[\w/-]+/)<(?:str:|uuid:)?(?P<name>\w+)>")


def _limit(query: str) -> int:
    """The number of results that a query demands; 0 if the query is invalid or has anything else."""
    if not query:
        return pagination.CursorPagination.default_limit
    found = _LIMIT.fullmatch(query)
    limit = int(found[1]) if found else 0
    return limit if limit <= pagination.CursorPagination.max_limit else 0


def reads(patterns: Iterable[tuple[str, URLPattern]]) -> Iterator[tuple[str, Read]]:
    """The routes that can be read here, by their path; that of an object without its key, but with the slash before it."""
    for route, pattern in patterns:
        callback: Any = pattern.callback
        view = getattr(callback, "cls", None)
        if not (isinstance(view, type) and issubclass(view, ConditionalViewSet)):
            continue
        keyed = _KEYED.fullmatch(route)
        if keyed and _is_plain_object(callback, view, keyed["name"]):
            represent = _represent(view)
            yield f"/{keyed['prefix']}", OneObject(f"/{route}", row_by_key(view), represent)
        elif "<" not in route and _is_plain_list(callback, view):
            yield f"/{route}", FirstPage(f"/{route}", _newest(view), _represent(view))


def _represent(view: Any) -> serializers.Represent:
    return serializers.of_rows(view.serializer_class)


def _newest(view: Any) -> Callable[[int], FirstRows]:
    newest = view.queryset.order_by(*pagination.NEWEST_FIRST)
    return cache(lambda number: FirstRows(newest, number))


def _is_plain(callback: Any, view: Any, action: str, mixin: type) -> bool:
    """Whether a GET does what ConditionalViewSet and this mixin do, and nothing else."""
    of_read = {*ConditionalViewSet.__mro__, *mixin.__mro__}
    in_reads = {name for one in of_read for name in vars(one)}
    own = {name for one in view.__mro__ if one not in of_read for name in vars(one)}
    return (
        callback.actions.get("get") == action
        # What selects the rows of a list does not concern the reads of one object.
        and not own & in_reads - DECLARED - ({"filter_list"} if action == "retrieve" else set())
        and callback.initkwargs.keys() <= ROUTE_ARGUMENTS
        # A decorator, such as one that demands a login, looks like the view that it wraps.
        and _wrappers(callback) == _wrappers(view.as_view(dict(callback.actions)))
        and view.queryset is not None
        and serializers.is_plain(view.serializer_class)
        and not any(
            (*view.permission_classes, *view.authentication_classes, *view.throttle_classes, *view.filter_backends)
        )
        and view.versioning_class is None
    )


def _is_plain_object(callback: Any, view: Any, argument: str) -> bool:
    return (
        _is_plain(callback, view, "retrieve", mixins.RetrieveModelMixin)
        and argument == view.lookup_field
        and _has_columns(view, {"modified_at"})
    )


def _is_plain_list(callback: Any, view: Any) -> bool:
    return (
        _is_plain(callback, view, "list", mixins.ListModelMixin)
        and view.pagination_class is pagination.CursorPagination
        and _has_columns(view, {"id", "created_at"})
    )


def _has_columns(view: Any, more: set[str]) -> bool:
    """Whether all that the serializer reads are columns, and so are `more`."""
    columns = {field.attname for field in view.queryset.model._meta.concrete_fields}
    return serializers.attributes(view.serializer_class) | more <= columns


def _wrappers(function: Any) -> int:
    found = 0
    while (function := getattr(function, "__wrapped__", None)) is not None:
        found += 1
    return found
