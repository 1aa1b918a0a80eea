"""What is no page: errors, health, and the receiver of spans."""

import contextlib
from http import HTTPStatus

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, RawPostDataException

from console.headers import failure
from console.views.bodies import discard


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The page for an address that does not exist."""
    return failure(request, HTTPStatus.NOT_FOUND, "Not found", "There is no such page.")


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The page for a form that cannot be read."""
    with contextlib.suppress(OSError, RawPostDataException):
        discard(request)
    if isinstance(exception, RequestDataTooBig):
        most = f"A form may have {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes."
        return failure(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too large", most)
    return failure(request, HTTPStatus.BAD_REQUEST, "Not possible", "The form that was sent cannot be read.")


def server_error(request: HttpRequest) -> HttpResponse:
    """The page for a defect of the console."""
    detail = "This is a defect of the console; its log has the details. Nothing else is affected."
    return failure(request, HTTPStatus.INTERNAL_SERVER_ERROR, "The console failed", detail)
