"""What is no page: errors, health, and the receiver of spans."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse

from console.headers import failure


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The page for an address that does not exist."""
    return failure(request, HTTPStatus.NOT_FOUND, "Not found", "There is no such page.")


def server_error(request: HttpRequest) -> HttpResponse:
    """The page for a defect of the console."""
    detail = "This is a defect of the console; its log has the details. Nothing else is affected."
    return failure(request, HTTPStatus.INTERNAL_SERVER_ERROR, "The console failed", detail)
