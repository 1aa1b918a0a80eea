"""Lists of tables of any size: what would read a whole table to be shown is not shown."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connections
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
