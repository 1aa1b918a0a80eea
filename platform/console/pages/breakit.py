"""Break it: what make chaos does, one failure at a time."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "console/breakit/index.html")


urlpatterns = [path("break", index, name="index")]
