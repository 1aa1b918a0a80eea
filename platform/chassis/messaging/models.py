"""The outbox and the inbox, and a model without a table for the dead letters in the admin."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Left, Now


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
    created_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True)
    parked_at = models.DateTimeField(null=True)
    parked_reason = models.TextField(null=True)
    discarded_at = models.DateTimeField(null=True, help_text="When a parked row was discarded; it is never sent.")
    discarded_by = models.TextField(null=True)

    class Meta:
        db_table = "outbox"
        verbose_name = "outbox event"
        permissions = [
            ("retry_outboxevent", "Can retry parked outbox events"),
            ("discard_outboxevent", "Can discard parked outbox events"),
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
    consumed_at = models.DateTimeField(db_default=Now())

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
        ]
