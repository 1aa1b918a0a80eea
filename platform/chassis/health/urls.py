"""`/health/live` and `/health/ready` of a web process."""

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from chassis.health import probe


# Exempt, so that another method is a 405: without its token a POST would be said to be a form.
@csrf_exempt
@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Liveness, for supervisors: 200, or 503 when the process should be started again."""
    return _json(probe.live())


@csrf_exempt
@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Readiness, for load balancers: 200 when requests may come, 503 and the failing part when not."""
    return _json(probe.ready())


def _json(answer: probe.Answer) -> JsonResponse:
    return JsonResponse(answer.body, status=answer.status)


urlpatterns = [path("health/live", live, name="live"), path("health/ready", ready, name="ready")]
