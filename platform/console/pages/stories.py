"""Stories: each request, followed through all processes."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "console/stories/index.html")


urlpatterns = [path("stories", index, name="index")]
