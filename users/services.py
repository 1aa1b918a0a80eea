"""The use cases of users. Each is one transaction that includes its events."""

import uuid
from collections.abc import Callable

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from chassis.events import after_commit, publish
from chassis.ids import derived_id
from chassis.reconciliation.republish import republish
from users import metrics
from users.events import UserCreated
from users.models import User

Condition = Callable[[User], None]
"""Checks the locked row before it is written; raises an exception to reject the change."""


class NoSuchUser(Exception):
    """There is no user with this id."""


def create_user(*, email: str, name: str) -> User:
    """Create a user, and publish `user.created`. Raises EmailTaken."""
    user = User(email=email, name=name)
    user.modified_at = user.created_at
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        User.objects.add(user)
        publish(_created(user), key=str(user.id), event_id=created_id(user.id))
        after_commit(metrics.CREATED.inc)
    return user


def change_user(
    *, user_id: uuid.UUID, email: str | None = None, name: str | None = None, only_if: Condition | None = None
) -> User:
    """Change the values that are given. Raises NoSuchUser, EmailTaken and any exception of `only_if`."""
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
    """Delete a user. Raises NoSuchUser and any exception of `only_if`."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        _locked(user_id, only_if).delete()


def republish_created(*, user_id: uuid.UUID) -> bool:
    """Republish the user's `user.created`, with the same id.

    Returns False if the user has been deleted or the event has not been sent yet. If its outbox row has been purged,
    the event contains the user's current email and name.
    """
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        user = User.objects.select_for_update().filter(pk=user_id).first()
        if user is None:
            return False
        return republish(_created(user), key=str(user.id), event_id=created_id(user.id))


def created_id(user_id: uuid.UUID) -> str:
    """The id of the only `user.created` that a user has."""
    return derived_id(user_id, UserCreated.topic)


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
