"""`/health/live` and `/health/ready`: the console depends on nothing, so both say only that it is running."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """It is running."""
    return JsonResponse({"status": "live", "service": "console", "parts": {}})
