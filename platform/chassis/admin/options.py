"""Admin lists for tables of any size: no list reads a whole table."""

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_permission_codename
from django.core.paginator import Paginator
from django.db import connections
from django.http import HttpRequest
from django.utils.functional import cached_property

MOST_COUNTED = 10_000
"""Maximum number of rows that are counted exactly."""


class EstimatingPaginator(Paginator):  # type: ignore[type-arg]
    """Counts at most MOST_COUNTED rows, whatever the size of the table.

    Beyond that, the count of a whole table is PostgreSQL's estimate. Of a filtered list only the first MOST_COUNTED rows are
    accessible; a narrower filter shows the rest.
    """

    @cached_property
    def count(self) -> int:
        """The number of accessible rows."""
        rows: Any = self.object_list
        counted: int = rows.order_by()[:MOST_COUNTED].count()
        if counted < MOST_COUNTED or rows.query.where:
            return counted
        with connections[rows.db].cursor() as cursor:
            cursor.execute(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [rows.model._meta.db_table]
            )
            (estimate,) = cursor.fetchone()
        return max(counted, int(estimate))


class ModelAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """For tables that grow. Subclasses must not use `date_hierarchy` or filters by distinct values, which read the whole table."""

    paginator = EstimatingPaginator
    show_full_result_count = False


class ReadOnlyAdmin(ModelAdmin):
    """Shows rows, but cannot add, change or delete them. Subclasses may have actions of their own."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: no user can add rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Return False: no user can change rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Return False: no user can delete rows."""
        return False

    def may(self, request: HttpRequest, action: str) -> bool:
        """Whether the user has the model's permission for an action of the subclass."""
        return request.user.has_perm(f"{self.opts.app_label}.{get_permission_codename(action, self.opts)}")
