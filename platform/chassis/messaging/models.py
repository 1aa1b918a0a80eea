"""The outbox and the inbox, and a model without a table for the dead letters in the admin."""

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Left, Now


class TimestampField(models.DateTimeField):  # type: ignore[type-arg]
    """A DateTimeField of which any value of PostgreSQL can be read, and thus a row with one be listed and repaired.

    PostgreSQL also stores `infinity` and years that Python has not. Anything before EARLIEST or after LATEST is read as that limit.
    """

    EARLIEST, LATEST = "1000-01-01 00:00:00+00", "9999-12-30 00:00:00+00"

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Replace such values in the list of a SELECT, but not in its conditions, which use the indexes."""
        earliest, latest = (f"timestamptz '{one}'" for one in (self.EARLIEST, self.LATEST))
        limited = f"CASE WHEN {sql} < {earliest} THEN {earliest} WHEN {sql} > {latest} THEN {latest} ELSE {sql} END"
        return limited, [*params, *params, *params]

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """For migrations, which only need to know the column."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs


class OutboxEvent(models.Model):
    """An event, written in the transaction of its cause; `manage.py relay` sends it."""

    position = models.BigAutoField(primary_key=True)
    event_id = models.UUIDField(unique=True)
    topic = models.TextField()
    key = models.TextField(null=True)
    raw_key = models.BinaryField(null=True, help_text="The bytes of a dead letter's key, if it is not text.")
    payload = models.BinaryField(null=True)
    headers = models.JSONField()
    request_id = models.TextField()
    created_at = TimestampField(db_default=Now())
    sent_at = TimestampField(null=True)
    parked_at = TimestampField(null=True)
    parked_reason = models.TextField(null=True)
    discarded_at = TimestampField(null=True, help_text="When a parked row was discarded; it is never sent.")
    discarded_by = models.TextField(null=True)

    class Meta:
        db_table = "outbox"
        verbose_name = "outbox event"
        permissions = [
            ("retry_outboxevent", "Can retry parked outbox events"),
            ("discard_outboxevent", "Can discard parked outbox events"),
            ("reveal_outboxevent", "Can see personal data in outbox events"),
        ]
        indexes = [
            models.Index("position", name="outbox_unsent", condition=Q(sent_at__isnull=True, parked_at__isnull=True)),
            # Of prefixes: keys in Kafka may be longer than an index entry.
            models.Index(
                Left("topic", 249),
                Left("key", 200),
                name="outbox_parked_key",
                condition=Q(sent_at__isnull=True, parked_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.event_id}"


class InboxEvent(models.Model):
    """An event whose effects are committed. A record with the same source, id and topic is a duplicate.

    These three columns are the table's key (migration 0008). Django's admin does not support composite keys, so Django treats
    the first one as the key, and must only be used to select and to insert rows.
    """

    event_id = models.TextField(primary_key=True)
    source = models.TextField(db_default="", help_text="Empty if processed before the inbox stored sources.")
    topic = models.TextField()
    key = models.TextField()
    request_id = models.TextField()
    consumed_at = TimestampField(db_default=Now())

    class Meta:
        db_table = "inbox"
        verbose_name = "inbox event"
        indexes = [
            models.Index("consumed_at", name="inbox_consumed_at"),  # the rows of a batch share one entry
            models.Index("event_id", "topic", name="inbox_without_source", condition=Q(source="")),
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.event_id}"


class DeadLetter(models.Model):
    """A dead letter in the admin. It is stored on its Kafka topic; this model provides only its name and permissions."""

    class Meta:
        managed = False
        verbose_name = "dead letter"
        default_permissions = ("view",)
        permissions = [
            ("redrive_deadletter", "Can redrive dead letters"),
            ("discard_deadletter", "Can discard dead letters"),
            ("edit_deadletter", "Can redrive dead letters with another payload"),
            ("reveal_deadletter", "Can see personal data in dead letters"),
        ]


class Story(models.Model):
    """The page of the admin that follows one request, user or order. This model provides only its name and permission."""

    class Meta:
        managed = False
        verbose_name = "story"
        verbose_name_plural = "stories"
        default_permissions = ("view",)
