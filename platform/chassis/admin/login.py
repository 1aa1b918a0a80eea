"""The admin's login form, which throttles failed attempts by account and by address.

Attempts are rows in the service's database, so that all of its processes share the count. An attempt is stored before the
password is checked, so that concurrent attempts count too. A throttled attempt is not stored: otherwise repeated attempts would
lock out the account's owner indefinitely.
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
"""The limit of an address is this many times that of an account, since many people may share an address."""


class LoginForm(AdminAuthenticationForm):
    """Django's form with throttling. `wait` is the number of seconds to wait if an attempt was throttled."""

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
    """Count an attempt. Returns 0, or the number of seconds to wait if there were too many."""
    window, most = settings.ADMIN_LOGIN_WINDOW_SECONDS, settings.ADMIN_LOGIN_ATTEMPTS
    account, address = _hashed("account", username), _hashed("address", address)
    database = settings.SERVICE_DATABASE
    with transaction.atomic(using=database), connections[database].cursor() as cursor:
        # Always account before address, so that two attempts cannot deadlock.
        for kind, value in ((1, account), (2, address)):
            cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [kind, value])
        cursor.execute("DELETE FROM admin_login_attempts WHERE at < now() - make_interval(secs => %s)", [window])
        waits = []
        for column, value, limit in (("account", account, most), ("address", address, most * ADDRESS_FACTOR)):
            # The oldest of the last `limit` attempts: when it leaves the window, another attempt is allowed.
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
    """Delete the attempts of this address on this account, after a correct password."""
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        cursor.execute(
            "DELETE FROM admin_login_attempts WHERE account = %s AND address = %s",
            [_hashed("account", username), _hashed("address", address)],
        )


def _hashed(kind: str, value: str) -> str:
    # Neither is stored in plain text: a user may have typed the password into the field of the account.
    return salted_hmac(f"chassis.admin.login.{kind}", value.casefold()).hexdigest()
