"""Dead letters, grouped by what they have in common."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "console/deadletters/index.html")


urlpatterns = [path("dead-letters", index, name="index")]
