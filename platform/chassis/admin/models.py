"""Failed login attempts."""

from django.db import models
from django.db.models.functions import Now


class LoginAttempt(models.Model):
    """A recent login attempt with a wrong password. Account and address are hashes."""

    account = models.TextField()
    address = models.TextField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "admin_login_attempts"
        indexes = [
            models.Index("account", "at", name="admin_login_by_account"),
            models.Index("address", "at", name="admin_login_by_address"),
            models.Index("at", name="admin_login_by_age"),
        ]

    def __str__(self) -> str:
        return str(self.pk)
