"""URL patterns of the gateway's own pages. The paths of services are in `routes.py` and never get here."""

from django.urls import include, path

from chassis.http.urls import ERROR_VIEWS
from gateway import api

urlpatterns = [
    path("", api.index, name="index"),
    path("api", api.index),
    path("api/docs", api.docs, name="docs"),
    path("api/schema", api.schema, name="schema"),
    path("api/asyncapi", api.events, name="asyncapi"),
    path("", include("chassis.health.urls")),
    path("", include("chassis.observability.urls")),
]
handler400, handler403, handler404, handler500 = ERROR_VIEWS
