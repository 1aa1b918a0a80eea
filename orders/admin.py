"""Orders in Django's admin, read-only: only events change an order."""

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from chassis.admin.options import ReadOnlyAdmin
from orders.models import Order


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    """Every order with its items, status and payment. Orders are created through the API and by events.

    Only a payment changes an order, and none is deleted: a paid order must remain traceable.
    """

    list_display = ("id", "user_id", "total_amount", "status", "payment_id", "is_welcome", "created_at")
    list_filter = ("status", "is_welcome", "created_at")
    search_fields = ("id", "user_id", "payment_id")
    list_per_page = 50
    fields = ("id", "user_id", "lines", "total_amount", "status", "payment_id", "is_welcome", "created_at")
    readonly_fields = fields

    @admin.display(description="items")
    def lines(self, order: Order) -> SafeString:
        """The items, one per line."""
        return format_html_join(
            "", "<div>{} x {} at {}</div>", ((i["quantity"], i["productId"], i["price"]) for i in order.items)
        )
