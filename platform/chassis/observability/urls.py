"""`/metrics`, for Prometheus."""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from chassis.observability import exposition


# Exempt, so that a POST is rejected with 405, not with 403 because of a missing CSRF token.
@csrf_exempt
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics of this process, or of all web processes behind its port."""
    headers, body = exposition.scrape(request.headers.get("Accept", ""), request.headers.get("Accept-Encoding", ""))
    return HttpResponse(body, headers=headers)


urlpatterns = [path("metrics", metrics, name="metrics")]
