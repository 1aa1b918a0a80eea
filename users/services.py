"""What can be done with users. Each use case is one transaction, its events included."""

import uuid
from collections.abc import Callable

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from chassis.events import publish
from chassis.reconciliation.republish import republish
from users.events import UserCreated
from users.models import User

Condition = Callable[[User], None]
"""Looks at the row, locked, before it is written, and raises what shall end the use case."""


class NoSuchUser(Exception):
    """There is no user with this id."""


def create_user(*, email: str, name: str) -> User:
    """Add a user and say so. Raises EmailTaken."""
    user = User(email=email, name=name)
    user.modified_at = user.created_at
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        User.objects.add(user)
        publish(_created(user), key=str(user.id), event_id=created_id(user.id))
    return user


def change_user(
    *, user_id: uuid.UUID, email: str | None = None, name: str | None = None, only_if: Condition | None = None
) -> User:
    """Change what is given, leave the rest. Raises NoSuchUser, EmailTaken and what `only_if` raises."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        user = _locked(user_id, only_if)
        before = (user.email, user.name)
        if email is not None and email.lower() != user.email.lower():
            User.objects.claim(email)
        user.email = user.email if email is None else email
        user.name = user.name if name is None else name
        if (user.email, user.name) != before:
            user.modified_at = max(timezone.now(), user.modified_at)
            user.save(update_fields=["email", "name", "modified_at"])
    return user


def delete_user(*, user_id: uuid.UUID, only_if: Condition | None = None) -> None:
    """Remove a user. Raises NoSuchUser and what `only_if` raises."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        _locked(user_id, only_if).delete()


def republish_created(*, user_id: uuid.UUID) -> bool:
    """Publish the user's `user.created` again, as the same event; False if the user is deleted, or their event not sent yet.

    Where its outbox row is purged, it holds the user's present email and name.
    """
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        user = User.objects.select_for_update().filter(pk=user_id).first()
        if user is None:
            return False
        return republish(_created(user), key=str(user.id), event_id=created_id(user.id))


def created_id(user_id: uuid.UUID) -> str:
    """The id of the one `user.created` that a user ever has."""
    return str(uuid.uuid5(user_id, UserCreated.topic))


def _created(user: User) -> UserCreated:
    return UserCreated(user_id=str(user.id), email=user.email, name=user.name, created_at=user.created_at)


def _locked(user_id: uuid.UUID, only_if: Condition | None) -> User:
    try:
        user = User.objects.select_for_update().get(pk=user_id)
    except User.DoesNotExist:
        raise NoSuchUser("There is no user with this id.") from None
    if only_if is not None:
        only_if(user)
    return user
