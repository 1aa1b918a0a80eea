"""The responses to requests with an Idempotency-Key."""

from django.db import models
from django.db.models.functions import Now


class IdempotencyKey(models.Model):
    """A key that a client sent, and the response, stored in the transaction of the request."""

    key = models.TextField(primary_key=True)
    fingerprint = models.BinaryField(help_text="SHA-256 of the request, to detect the same key with another request.")
    status = models.SmallIntegerField(null=True)
    location = models.TextField(null=True)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "idempotency_keys"
        indexes = [models.Index("created_at", name="idempotency_keys_created")]

    def __str__(self) -> str:
        return self.key
