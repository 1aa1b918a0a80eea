"""The paths that every service has, and the views for Django's own errors."""

from importlib.util import find_spec

from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView

from chassis.http import errors

ERROR_VIEWS = (errors.bad_request, errors.permission_denied, errors.page_not_found, errors.server_error)
"""handler400, handler403, handler404 and handler500 of a service's urls.py."""

SHARED = ("chassis.health.urls", "chassis.observability.urls", "chassis.messaging.urls")


def common_urls() -> list[URLPattern | URLResolver]:
    """`health/live`, `health/ready`, `metrics`, `asyncapi` and `schema`."""
    return [
        *(path("", include(module)) for module in SHARED if find_spec(module)),
        path("schema", SpectacularJSONAPIView.as_view(), name="schema"),
    ]


def admin_urls() -> list[URLPattern | URLResolver]:
    """Django's admin at `admin/`, found without the slash too; for services with a database."""
    from django.contrib import admin

    return [path("admin", RedirectView.as_view(pattern_name="admin:index")), path("admin/", admin.site.urls)]
