"""Who asks: an operator with the token, or a user of the admin."""

from django.contrib.auth.models import Permission
from django.contrib.auth.models import User as Person
from django.test import Client

TOKEN = "an-operator-token-of-the-tests-0123456789"
NAME = "Ada Lovelace"


def operator(name: str = NAME, token: str = TOKEN) -> Client:
    """A client that sends the token."""
    return Client(headers={"Authorization": f"Bearer {token}", "X-Operator": name})


def person(
    *permissions: str, staff: bool = True, superuser: bool = False, active: bool = True, csrf: bool = False
) -> Client:
    """A logged-in user of the admin with these permissions of `messaging`, given by their codenames."""
    client = Client(enforce_csrf_checks=csrf)
    user = Person.objects.create_user("grace", is_staff=staff, is_superuser=superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    client.force_login(user)
    if not active:
        Person.objects.update(is_active=False)
    return client
