"""The catalogue: services with their APIs, events, settings and versions, and the runbook."""

from django.urls import path

from console.pages.catalogue import api, runbook, services

urlpatterns = [
    path("catalogue", services.index, name="index"),
    path("catalogue/cells", services.cells, name="cells"),
    path("catalogue/services/<str:name>", services.details, name="service"),
    path("catalogue/api", api.index, name="api"),
    path("catalogue/api/openapi.json", api.document, name="openapi"),
    path("catalogue/runbook", runbook.index, name="runbook"),
]
