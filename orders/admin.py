"""Orders in Django's admin, to look at: only events change one."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from chassis.admin.options import ModelAdmin
from orders.models import Order


@admin.register(Order)
class OrderAdmin(ModelAdmin):
    """Every order with its items, status and payment. There is nothing to edit: a status follows from a payment."""

    list_display = ("id", "user_id", "total_amount", "status", "payment_id", "is_welcome", "created_at")
    list_filter = ("status", "is_welcome", "created_at")
    search_fields = ("id", "user_id", "payment_id")
    list_per_page = 50
    fields = ("id", "user_id", "lines", "total_amount", "status", "payment_id", "is_welcome", "created_at")
    readonly_fields = fields

    @admin.display(description="items")
    def lines(self, order: Order) -> SafeString:
        """The items, one a line."""
        return format_html_join(
            "", "<div>{} x {} at {}</div>", ((i["quantity"], i["productId"], i["price"]) for i in order.items)
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Orders come through the API and from events."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Order | None = None) -> bool:
        """Only a payment changes an order."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Order | None = None) -> bool:
        """An order that was paid for must be found again."""
        return False
