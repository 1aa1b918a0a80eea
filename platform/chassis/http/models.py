"""The answers that were given to Idempotency-Keys."""

from django.db import models
from django.db.models.functions import Now


class IdempotencyKey(models.Model):
    """A key that a client sent with a POST, and the answer, written in the transaction that the answer is about."""

    key = models.TextField(primary_key=True)
    fingerprint = models.BinaryField(help_text="SHA-256 of the request: the same key for another is an error.")
    status = models.SmallIntegerField(null=True)
    location = models.TextField(null=True)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "idempotency_keys"
        indexes = [models.Index("created_at", name="idempotency_keys_created")]

    def __str__(self) -> str:
        return self.key
