"""The admin's login form: a password may be tried some times in a row, by account and by address, then one waits.

The attempts are rows in the service's database, so that all its processes count together. An attempt is written before
the password is looked at: many at the same moment are many. One that is refused is not written, so that whoever goes on
trying does not lock the account's owner out for ever.
"""

import math
from typing import Any

import structlog
from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.db import connections, transaction
from django.utils.crypto import salted_hmac

log = structlog.get_logger(__name__)

ADDRESS_FACTOR = 4
"""An address may be that of many people: it may try as many times more."""


class LoginForm(AdminAuthenticationForm):
    """Django's form, throttled. `wait` is how many seconds to wait where it was refused for that."""

    wait = 0

    def clean(self) -> dict[str, Any]:
        """Check the password, unless there were too many attempts."""
        username = self.cleaned_data.get("username")
        address = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        if username is None or not self.cleaned_data.get("password"):
            return super().clean()
        self.wait = admit(username, address)
        if self.wait:
            log.warning("admin login throttled", seconds=self.wait)
            raise ValidationError(f"Too many attempts: try again in {self.wait} seconds.", code="throttled")
        cleaned = super().clean()
        forget(username, address)
        return cleaned


def admit(username: str, address: str) -> int:
    """Count an attempt. Returns 0, or how many seconds to wait where there were too many."""
    window, most = settings.ADMIN_LOGIN_WINDOW_SECONDS, settings.ADMIN_LOGIN_ATTEMPTS
    account, address = _hashed("account", username), _hashed("address", address)
    database = settings.SERVICE_DATABASE
    with transaction.atomic(using=database), connections[database].cursor() as cursor:
        # In this order, account before address, so that two never wait for each other.
        for kind, value in ((1, account), (2, address)):
            cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [kind, value])
        cursor.execute("DELETE FROM admin_login_attempts WHERE at < now() - make_interval(secs => %s)", [window])
        waits = []
        for column, value, limit in (("account", account, most), ("address", address, most * ADDRESS_FACTOR)):
            # The oldest of the last `limit` attempts: when it is out of the window, there is room for one more.
            cursor.execute(
                f"SELECT extract(epoch FROM at - now()) + %s FROM admin_login_attempts WHERE {column} = %s"  # noqa: S608
                " ORDER BY at DESC OFFSET %s LIMIT 1",
                [window, value, limit - 1],
            )
            waits += [float(wait) for (wait,) in cursor.fetchall()]
        if waits:
            return max(1, math.ceil(max(waits)))
        cursor.execute("INSERT INTO admin_login_attempts (account, address) VALUES (%s, %s)", [account, address])
    return 0


def forget(username: str, address: str) -> None:
    """The password was right: what this address tried on this account does not count."""
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        cursor.execute(
            "DELETE FROM admin_login_attempts WHERE account = %s AND address = %s",
            [_hashed("account", username), _hashed("address", address)],
        )


def _hashed(kind: str, value: str) -> str:
    # Neither is kept as it is: an account may be tried that is a password, typed into the wrong field.
    return salted_hmac(f"chassis.admin.login.{kind}", value.casefold()).hexdigest()
