"""`/asyncapi`: the AsyncAPI document of this service."""

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from chassis.topology import asyncapi


@csrf_exempt
@require_safe
def asyncapi_view(request: HttpRequest) -> JsonResponse:
    """The AsyncAPI 3 document of this service."""
    return JsonResponse(asyncapi.document())


urlpatterns = [path("asyncapi", asyncapi_view, name="asyncapi")]
