"""Lists of tables of any size: what would read a whole table to be shown is not shown."""

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_permission_codename
from django.core.paginator import Paginator
from django.db import connections
from django.http import HttpRequest
from django.utils.functional import cached_property

MOST_COUNTED = 10_000
"""So many rows are counted exactly."""


class EstimatingPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no more than MOST_COUNTED rows, whatever the table's size.

    Beyond, a whole table is as large as PostgreSQL's own estimate; of a filtered list the first MOST_COUNTED rows can be
    turned to, and a narrower filter shows the rest.
    """

    @cached_property
    def count(self) -> int:
        """How many rows there are to turn to."""
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
    """For tables that grow. Subclasses have no `date_hierarchy` and no filter by a column's distinct values: both read all."""

    paginator = EstimatingPaginator
    show_full_result_count = False


class ReadOnlyAdmin(ModelAdmin):
    """Shows rows: none is added, changed or deleted here. The subclass says where they come from, and what changes them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody."""
        return False

    def may(self, request: HttpRequest, action: str) -> bool:
        """Whether the user has the model's permission for an action of the subclass's own."""
        return request.user.has_perm(f"{self.opts.app_label}.{get_permission_codename(action, self.opts)}")
