"""`/health/live` and `/health/ready` of a web process."""

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from chassis.health import probe


# Exempt, so that a POST is rejected with 405, not with 403 because of a missing CSRF token.
@csrf_exempt
@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Liveness, for supervisors: 200, or 503 if the process should be restarted."""
    return _json(probe.live())


@csrf_exempt
@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Readiness, for load balancers: 200 if the process accepts requests, otherwise 503 with the failed parts."""
    return _json(probe.ready())


def _json(answer: probe.Answer) -> JsonResponse:
    return JsonResponse(answer.body, status=answer.status)


urlpatterns = [path("health/live", live, name="live"), path("health/ready", ready, name="ready")]
