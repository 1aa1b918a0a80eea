"""The admin's site: a query or an id that means nothing is no failure, and logins are throttled."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from traceback import extract_tb
from typing import Any

import structlog
from django.contrib import admin, messages
from django.core.exceptions import FieldDoesNotExist, FieldError, SuspiciousOperation, ValidationError
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import reverse

from chassis.admin.login import LoginForm
from chassis.database.failures import sqlstate

log = structlog.get_logger(__name__)

View = Callable[..., HttpResponseBase]

IN_THE_VALUE = ("22", "54", "42804", "42883")
"""SQLSTATE classes and codes that say that a value cannot be asked for: data exceptions (a broken regular expression, a
number out of range), limits, operators that a type does not have."""

MEANINGLESS = (
    ValueError, TypeError, LookupError, OverflowError, ValidationError, FieldError, FieldDoesNotExist, DatabaseError,
)  # fmt: skip
"""What Python, Django and the database raise for a value or a name that means nothing to them."""


class AdminSite(admin.AdminSite):
    """Django's, made safe to try things out on."""

    login_form = LoginForm

    def get_urls(self) -> list[Any]:
        """Django's, but for "view on site": no model here has a page of its own, and it needs django.contrib.sites."""
        return [url for url in super().get_urls() if getattr(url, "name", None) != "view_on_site"]

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # type: ignore[override]
        """Django's hook around every page behind the login."""
        return super().admin_view(_guarded(view), cacheable)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The login, which leads to a page of the admin; a throttled one is a 429, which says when to try again."""
        response = _within_admin(super().login(request, extra_context))
        form = (getattr(response, "context_data", None) or {}).get("form")
        if wait := getattr(form, "wait", 0):
            response.status_code = 429
            response["Retry-After"] = str(wait)
        return response

    def logout(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The end of a session, which leads to a page of the admin too."""
        return _within_admin(super().logout(request, extra_context))


def _within_admin(response: HttpResponse) -> HttpResponse:
    """Lead a redirect that `next` has chosen to the admin's index, unless it is to a page of the admin.

    Django follows `next` to anything on this host, and takes `//`, which no browser can follow, for a path of it.
    """
    index = reverse("admin:index")
    if isinstance(response, HttpResponseRedirect) and not response.url.startswith(index):
        return HttpResponseRedirect(index)
    return response


def _guarded(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
            if isinstance(response, SimpleTemplateResponse):
                # Here, as a list is read from the database only when it is shown.
                response = response.render()
        except MEANINGLESS as error:
            if isinstance(error, DatabaseError) and not _is_in_the_value(error):
                raise
            return _meaningless(request, error)
        return response

    return guarded


def _is_in_the_value(error: DatabaseError) -> bool:
    # Without a code it is the driver that refused to send a value: NUL in a text, say.
    cause = error.__cause__
    return sqlstate(error).startswith(IN_THE_VALUE) or (
        type(cause).__name__ in {"DataError", "ProgrammingError"} and not sqlstate(error)
    )


def _meaningless(request: HttpRequest, error: Exception) -> HttpResponseBase:
    """The list without its filters, 404 for an id, 400 for a form. The log has where, to tell a wrong value from a bug."""
    # Not the exception's text, which quotes the value.
    where = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)[-8:]
    ]
    log.warning("admin page asked for something meaningless", error=type(error).__name__, where=where)
    if request.method not in {"GET", "HEAD"}:
        raise SuspiciousOperation("a value that cannot be") from None
    if not request.GET:
        raise Http404 from None
    messages.error(request, "These filters cannot be applied: a value is out of range, or means nothing here.")
    return HttpResponseRedirect(request.path)
