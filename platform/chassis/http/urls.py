"""The paths that every service has, and the views for Django's own errors."""

from importlib.util import find_spec
from threading import Lock
from typing import Any, cast

from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.response import Response

from chassis.http import errors

ERROR_VIEWS = (errors.bad_request, errors.permission_denied, errors.page_not_found, errors.server_error)
"""handler400, handler403, handler404 and handler500 of a service's urls.py."""

SHARED = ("chassis.health.urls", "chassis.observability.urls", "chassis.topology.urls")


class SchemaView(SpectacularJSONAPIView):
    """The service's OpenAPI document, made for one request at a time.

    drf-spectacular finds out at its first use which of its extensions apply, and two threads at once would meet half of that.
    """

    making = Lock()

    @extend_schema(exclude=True)
    def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """The document."""
        with self.making:
            return cast("Response", super().get(request, *args, **kwargs))  # type: ignore[no-untyped-call]


def common_urls() -> list[URLPattern | URLResolver]:
    """`health/live`, `health/ready`, `metrics`, `asyncapi` and `schema`."""
    return [
        *(path("", include(module)) for module in SHARED if find_spec(module)),
        path("schema", SchemaView.as_view(), name="schema"),
    ]


def admin_urls() -> list[URLPattern | URLResolver]:
    """Django's admin at `admin/`, found without the slash too; for services with a database."""
    from django.contrib import admin

    return [path("admin", RedirectView.as_view(pattern_name="admin:index")), path("admin/", admin.site.urls)]
