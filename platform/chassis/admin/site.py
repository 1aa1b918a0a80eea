"""The admin site: invalid queries and ids do not cause errors, and logins are throttled."""

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

VALUE_SQLSTATES = ("22", "54", "42804", "42883")
"""SQLSTATE classes and codes of errors that an invalid value causes: data exceptions (an invalid regular expression, a number
out of range), exceeded limits, and operators that a type does not have."""

VALUE_ERRORS = (
    ValueError, TypeError, LookupError, OverflowError, ValidationError, FieldError, FieldDoesNotExist, DatabaseError,
)  # fmt: skip
"""The exceptions that Python, Django and the database raise for an invalid value or name."""


class AdminSite(admin.AdminSite):
    """Django's admin site with throttled logins and safe error handling."""

    login_form = LoginForm

    def get_urls(self) -> list[Any]:
        """Django's URLs except "view on site", which requires django.contrib.sites, and which no model here uses."""
        return [url for url in super().get_urls() if getattr(url, "name", None) != "view_on_site"]

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # type: ignore[override]
        """Django's hook around every page behind the login."""
        return super().admin_view(_guard(view), cacheable)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Log in, and redirect to a page of the admin. A throttled attempt is rejected with 429 and Retry-After."""
        response = _within_admin(super().login(request, extra_context))
        form = (getattr(response, "context_data", None) or {}).get("form")
        if wait := getattr(form, "wait", 0):
            response.status_code = 429
            response["Retry-After"] = str(wait)
        return response

    def logout(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Log out, and redirect to a page of the admin."""
        return _within_admin(super().logout(request, extra_context))


def _within_admin(response: HttpResponse) -> HttpResponse:
    """Replace a redirect to a page outside of the admin, which `next` can request, with one to the admin's index.

    Django accepts any URL on this host in `next`, including `//`, which browsers cannot follow.
    """
    index = reverse("admin:index")
    if isinstance(response, HttpResponseRedirect) and not response.url.startswith(index):
        return HttpResponseRedirect(index)
    return response


def _guard(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
            if isinstance(response, SimpleTemplateResponse):
                # Render here, since a list is read from the database only when it is rendered.
                response = response.render()
        except VALUE_ERRORS as error:
            if isinstance(error, DatabaseError) and not _is_value_error(error):
                raise
            return _reject(request, error)
        return response

    return guarded


def _is_value_error(error: DatabaseError) -> bool:
    # Without a code, the driver refused to send a value, for example a NUL character.
    cause = error.__cause__
    return sqlstate(error).startswith(VALUE_SQLSTATES) or (
        type(cause).__name__ in {"DataError", "ProgrammingError"} and not sqlstate(error)
    )


def _reject(request: HttpRequest, error: Exception) -> HttpResponseBase:
    """Redirect to the list without filters, or respond with 404 for an id, or 400 for a form.

    The location of the error is logged, to distinguish an invalid value from a bug.
    """
    # The exception's text is not logged, since it quotes the value.
    where = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)[-8:]
    ]
    log.warning("admin page requested with an invalid value", error=type(error).__name__, where=where)
    if request.method not in {"GET", "HEAD"}:
        raise SuspiciousOperation("an invalid value") from None
    if not request.GET:
        raise Http404 from None
    messages.error(request, "These filters cannot be applied: a value is invalid or out of range.")
    return HttpResponseRedirect(request.path)
