"""The live map: services, topics and databases, with their rates, delays and health."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "console/map/index.html")


urlpatterns = [path("", index, name="index")]
