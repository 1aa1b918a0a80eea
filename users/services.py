"""What can be done with users. Each use case is one transaction, its events included."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import IntegrityError, transaction

from chassis.messaging import again
from chassis.messaging.envelope import Outgoing
from chassis.messaging.outbox import publish_all
from users.events import UserCreated
from users.models import EMAIL_UNIQUE, User


class EmailTaken(Exception):
    """Another user has this email, whatever its case."""


class NoSuchUser(Exception):
    """There is no user with this id."""


def create_user(*, email: str, name: str) -> User:
    """Add a user and say so. Raises EmailTaken."""
    user = User(email=email, name=name)
    with _transaction():
        user.save(force_insert=True)
        publish_all([_created(user)])
    return user


def change_user(*, user_id: uuid.UUID, email: str | None = None, name: str | None = None) -> User:
    """Change what is given, leave the rest. Raises NoSuchUser and EmailTaken."""
    with _transaction():
        user = _locked(user_id)
        user.email = user.email if email is None else email
        user.name = user.name if name is None else name
        user.save(update_fields=["email", "name"])
    return user


def delete_user(*, user_id: uuid.UUID) -> None:
    """Remove a user. Raises NoSuchUser."""
    with _transaction():
        _locked(user_id).delete()


def publish_again(*, user_id: uuid.UUID) -> bool:
    """Say once more that a user joined, by the same event; False if the user is gone by now, or it is still to be sent.

    Where its outbox row is gone too, it says the user's present email and name.
    """
    with _transaction():
        user = User.objects.select_for_update().filter(pk=user_id).first()
        return user is not None and again.publish_again(_created(user))


def created_id(user_id: uuid.UUID) -> str:
    """The id of the one `user.created` that a user ever has."""
    return str(uuid.uuid5(user_id, UserCreated.topic))


def _created(user: User) -> Outgoing:
    event = UserCreated(user_id=str(user.id), email=user.email, name=user.name, created_at=user.created_at)
    return Outgoing(event, key=str(user.id), event_id=created_id(user.id))


def _locked(user_id: uuid.UUID) -> User:
    try:
        return User.objects.select_for_update().get(pk=user_id)
    except User.DoesNotExist:
        raise NoSuchUser(user_id) from None


@contextmanager
def _transaction() -> Iterator[None]:
    """A transaction in which a second user with one email is EmailTaken.

    Only the database can tell: whoever looks first and writes then meets a twin that did the same.
    """
    try:
        with transaction.atomic(using=settings.SERVICE_DATABASE):
            yield
    except IntegrityError as error:
        if getattr(getattr(error.__cause__, "diag", None), "constraint_name", None) != EMAIL_UNIQUE:
            raise
        # The database's message quotes the email, which no log should hold.
        raise EmailTaken from None
