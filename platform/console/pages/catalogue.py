"""The catalogue: services, APIs, events and settings."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "console/catalogue/index.html")


urlpatterns = [path("catalogue", index, name="index")]
