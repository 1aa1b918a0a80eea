"""The outbox and the inbox in Django's admin: read-only, to see what happened to an event."""

import json

from django.contrib import admin
from django.http import HttpRequest

from chassis.messaging.models import InboxEvent, OutboxEvent


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows; changes none."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    """What was published, and whether it was sent."""

    list_display = ("position", "topic", "key", "event_id", "state", "created_at", "sent_at", "request_id")
    list_filter = ("topic", ("sent_at", admin.EmptyFieldListFilter), ("parked_at", admin.EmptyFieldListFilter))
    search_fields = ("key", "event_id__exact", "request_id")
    search_help_text = "By key, event id or request id"
    ordering = ("-position",)
    show_full_result_count = False
    fields = (
        "position", "event_id", "topic", "key", "state", "created_at", "sent_at", "parked_at", "parked_reason",
        "request_id", "headers", "content",
    )  # fmt: skip

    @admin.display(description="state")
    def state(self, row: OutboxEvent) -> str:
        if row.sent_at:
            return "sent"
        return "parked" if row.parked_at else "waiting"

    @admin.display(description="payload")
    def content(self, row: OutboxEvent) -> str:
        payload = bytes(row.payload or b"")
        try:
            return json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
        except ValueError:
            return repr(payload[:10_000])


@admin.register(InboxEvent)
class InboxEventAdmin(ReadOnlyAdmin):
    """Which events were consumed, and when."""

    list_display = ("event_id", "topic", "key", "consumed_at", "request_id")
    list_filter = ("topic",)
    search_fields = ("key", "event_id", "request_id")
    search_help_text = "By key, event id or request id"
    ordering = ("-consumed_at",)
    show_full_result_count = False
