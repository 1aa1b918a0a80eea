"""The outbox and the inbox in Django's admin, to see what happened to an event, and to retry or discard parked rows."""

import json
from typing import Any, cast
from urllib.parse import urlencode

import structlog
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from chassis.admin.options import ReadOnlyAdmin
from chassis.deadletters import admin as admin_deadletters
from chassis.deadletters.store import sources
from chassis.events import masking, registry
from chassis.messaging.models import InboxEvent, OutboxEvent
from chassis.observability import privacy
from chassis.outbox import parked
from chassis.outbox.headers import headers_from_json
from chassis.story import admin as admin_story

__all__ = ["InboxEventAdmin", "OutboxEventAdmin", "admin_deadletters", "admin_story"]

log = structlog.get_logger(__name__)


class StateFilter(admin.SimpleListFilter):
    """Filters rows by their state."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state) for state in STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[OutboxEvent]) -> QuerySet[OutboxEvent]:
        state = STATES.get(self.value() or "")
        return queryset if state is None else queryset.filter(state)


class TopicFilter(admin.SimpleListFilter):
    """Filters by topic. The choices are the service's declared topics, since finding those in use would read the whole table."""

    title = "topic"
    parameter_name = "topic"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(topic=self.value()) if self.value() else queryset


class SentTopicFilter(TopicFilter):
    """Filters by the topics of published events and of dead letters."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(topic, topic) for topic in sorted([*(event.topic for event in registry.published()), *sources()])]


class ConsumedTopicFilter(TopicFilter):
    """Filters by consumed topics."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(topic, topic) for topic in sorted(registry.handlers())]


SHOWN_KEY_LENGTH = 80
LONGEST = 100_000
"""Maximum number of characters of a payload or of all headers on a page."""
HIDDEN = privacy.HIDDEN


def _short(key: str | None) -> str | None:
    """Truncate a key for a list, since Kafka accepts keys of a megabyte."""
    return key if key is None or len(key) <= SHOWN_KEY_LENGTH else f"{key[:SHOWN_KEY_LENGTH]}…"


STATES = {
    "waiting": Q(sent_at=None, parked_at=None),
    "parked": Q(sent_at=None, parked_at__isnull=False, discarded_at=None),
    "discarded": Q(sent_at=None, discarded_at__isnull=False),
    "sent": Q(sent_at__isnull=False),
}


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    """Published events, and whether they were sent. Parked rows can be retried or discarded."""

    list_display = (
        "position", "topic", "short_key", "event_id", "state", "created_at", "sent_at", "request_id", "parked_reason",
    )  # fmt: skip
    list_filter = (StateFilter, SentTopicFilter)
    search_fields = ("key", "event_id__exact", "request_id")
    search_help_text = "By key, event id or request id"
    ordering = ("-position",)
    actions = ("retry_parked", "discard_parked")
    fields = (
        "position", "event_id", "topic", "key", "state", "created_at", "sent_at", "parked_at", "parked_reason",
        "discarded_at", "discarded_by", "request_id", "story", "shown_headers", "content",
    )  # fmt: skip

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> OutboxEvent | None:
        """The row, which knows whether this user requested to see personal data; that is logged."""
        row: Any = super().get_object(request, object_id, from_field)
        if row is not None:
            row.may_reveal, row.may_story = self.may(request, "reveal"), request.user.has_perm("messaging.view_story")
            row.revealed = "reveal" in request.GET and row.may_reveal
            if row.revealed:
                what = {"what": "outbox row", "position": row.position, "event_id": str(row.event_id)}
                log.info("personal data revealed", by=request.user.get_username(), **what)
        return cast("OutboxEvent | None", row)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "retry")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "discard")

    @admin.action(description="Retry parked rows", permissions=["retry"])
    def retry_parked(self, request: HttpRequest, queryset: QuerySet[OutboxEvent]) -> None:
        chosen = list(queryset.values_list("position", flat=True))
        done = parked.retry(chosen, by=request.user.get_username())
        self._report(request, "retried", len(done), len(chosen))

    @admin.action(description="Discard parked rows", permissions=["discard"])
    def discard_parked(self, request: HttpRequest, queryset: QuerySet[OutboxEvent]) -> HttpResponse | None:
        if "confirmed" not in request.POST:
            return self._ask(request, queryset)
        chosen = list(queryset.values_list("position", flat=True))
        done = parked.discard(chosen, by=request.user.get_username())
        self._report(request, "discarded", len(done), len(chosen))
        return None

    def _ask(self, request: HttpRequest, queryset: QuerySet[OutboxEvent]) -> HttpResponse:
        """The confirmation page."""
        rows = list(queryset)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Discard parked rows",
            "question": "These will never be sent, and later rows of their keys will be sent without them:",
            "lines": [
                f"{row.position}  {row.topic}  key={_short(row.key)}  {row.parked_reason or 'not parked'}"
                for row in rows
            ],
            "fields": [("action", "discard_parked"), *((ACTION_CHECKBOX_NAME, row.position) for row in rows)],
            "back": request.get_full_path(),
        }
        return TemplateResponse(request, "admin/messaging/confirm.html", context)

    def _report(self, request: HttpRequest, action: str, done: int, chosen: int) -> None:
        if done:
            self.message_user(request, f"{done} {action}.", messages.SUCCESS)
        if chosen > done:
            self.message_user(request, f"{chosen - done} not {action}: not parked.", messages.WARNING)

    @admin.display(description="key", ordering="key")
    def short_key(self, row: OutboxEvent) -> str | None:
        return _short(row.key)

    @admin.display(description="state")
    def state(self, row: OutboxEvent) -> str:
        if row.sent_at:
            return "sent"
        if row.discarded_at:
            return "discarded"
        return "parked" if row.parked_at else "waiting"

    @admin.display(description="story")
    def story(self, row: Any) -> str:
        if not row.request_id or not getattr(row, "may_story", False):
            return "-"
        page = reverse("admin:messaging_story_changelist")
        return format_html('<a href="{}?{}">{}</a>', page, urlencode({"id": row.request_id}), "of its request")

    @admin.display(description="headers")
    def shown_headers(self, row: Any) -> str:
        try:
            pairs = headers_from_json(json.dumps(row.headers))
        except (ValueError, TypeError, AttributeError, KeyError):  # not written by this code
            return repr(row.headers)[:LONGEST] if getattr(row, "revealed", False) else HIDDEN
        shown = masking.headers(pairs, reveal=getattr(row, "revealed", False))
        return "\n".join(f"{name}: {value}" for name, value in shown)[:LONGEST]

    @admin.display(description="payload")
    def content(self, row: Any) -> str:
        revealed = getattr(row, "revealed", False)
        shown = masking.payload(None if row.payload is None else bytes(row.payload), reveal=revealed)
        content = HIDDEN if shown["content"] is None and shown["masked"] else shown["content"] or ""
        if shown["encoding"] == "json":
            content = json.dumps(json.loads(content), indent=2, ensure_ascii=False)
        if shown["masked"] and getattr(row, "may_reveal", False):
            return format_html(
                '{} <a href="?reveal=1">{}</a>', content[:LONGEST], "Show personal data (this is logged)"
            )
        return content[:LONGEST]


@admin.register(InboxEvent)
class InboxEventAdmin(ReadOnlyAdmin):
    """Processed events, and when they were processed."""

    list_display = ("event_id", "source", "topic", "short_key", "consumed_at", "request_id")
    list_display_links = None  # two rows may have the same id, and a page per row would show nothing more
    list_filter = (ConsumedTopicFilter,)
    search_fields = ("key", "event_id", "request_id")
    search_help_text = "By key, event id or request id"
    ordering = ("-consumed_at",)

    @admin.display(description="key", ordering="key")
    def short_key(self, row: InboxEvent) -> str | None:
        return _short(row.key)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> InboxEvent | None:
        return self.get_queryset(request).filter(event_id=object_id).order_by("consumed_at").first()
