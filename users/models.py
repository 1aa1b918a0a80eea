"""The user model, with the constraints that the database enforces."""

from typing import ClassVar

from django.conf import settings
from django.db import connections, models
from django.db.models.functions import Lower, Now
from django.utils import timezone

from chassis.ids import new_id

EMAIL_UNIQUE = "users_email_unique"
EMAIL_TAKEN = "This email is taken."


class EmailTaken(Exception):
    """Another user has this email, compared case-insensitively."""


class UserManager(models.Manager["User"]):
    """Writes that raise EmailTaken without causing a database error.

    A failed INSERT or UPDATE would put its values in PostgreSQL's log and in the spans.
    """

    def add(self, user: "User") -> None:
        """Insert a user. Waits for a transaction that inserts the same email. Raises EmailTaken and inserts nothing."""
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            cursor.execute(
                "INSERT INTO users (id, email, name, created_at, modified_at) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (lower(email)) DO NOTHING",
                [user.id, user.email, user.name, user.created_at, user.modified_at],
            )
            if not cursor.rowcount:
                raise EmailTaken(EMAIL_TAKEN)
        user._state.adding, user._state.db = False, settings.SERVICE_DATABASE

    def claim(self, email: str) -> None:
        """Prevent others from taking an email until the end of the transaction. Raises EmailTaken.

        UPDATE has no ON CONFLICT. Therefore a row with this email is inserted and deleted: a transaction that inserts
        the same email waits for this one to end.
        """
        placeholder = User(email=email, name="")
        self.add(placeholder)
        self.filter(pk=placeholder.pk).delete()


class User(models.Model):
    """A user. Email addresses are unique, compared case-insensitively."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.CharField(max_length=254)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    modified_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)

    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        db_table = "users"
        ordering = ("-created_at", "-id")
        constraints = [models.UniqueConstraint(Lower("email"), name=EMAIL_UNIQUE, violation_error_message=EMAIL_TAKEN)]
        indexes = [models.Index("created_at", "id", name="users_by_age")]

    def __str__(self) -> str:
        # Not the name: this is logged.
        return str(self.id)
