"""The pages of the console, and where processes send spans."""

from importlib import import_module

from django.urls import include, path

from console.pages import PAGES
from console.views import bad_request, health, not_found, server_error
from console.views.traces import traces

urlpatterns = [
    path("health/live", health.live),
    path("health/ready", health.live),
    path("v1/traces", traces),
    *(path("", include((import_module(f"console.pages.{page.module}").urlpatterns, page.module))) for page in PAGES),
]

handler400 = bad_request
handler404 = not_found
handler500 = server_error
