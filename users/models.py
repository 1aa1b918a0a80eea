"""A user, and what the database itself holds true of one."""

import uuid

from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

EMAIL_UNIQUE = "users_email_unique"


class User(models.Model):
    """Somebody with an email address that nobody else has, whatever its case."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.CharField(max_length=254)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        db_table = "users"
        ordering = ("-created_at", "-id")
        constraints = [
            models.UniqueConstraint(Lower("email"), name=EMAIL_UNIQUE, violation_error_message="This email is taken.")
        ]
        indexes = [models.Index("created_at", "id", name="users_by_age")]

    def __str__(self) -> str:
        # The id, not the name: this ends up in logs.
        return str(self.id)
