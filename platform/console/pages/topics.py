"""Topics: their records, and the consumer groups that read them."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "console/topics/index.html")


urlpatterns = [path("topics", index, name="index")]
