"""Every error response is a problem document (RFC 9457, `application/problem+json`) with the request id and errors by field.

There are three sources: exceptions in an API view (`exception_handler`), Django's own error views (`bad_request` and the
functions after it, which each service's urls.py names), and error responses without a body (`ProblemMiddleware`).
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, InterfaceError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.response import HttpResponseBase
from rest_framework import exceptions
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.utils.serializer_helpers import ReturnDict

from chassis import json
from chassis.database import failures
from chassis.observability.correlation import current_request_id

CONTENT_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


class Conflict(exceptions.APIException):
    """The request conflicts with the current state."""

    status_code = HTTPStatus.CONFLICT
    default_detail = "The request conflicts with the current state."
    default_code = "conflict"


class Unprocessable(exceptions.APIException):
    """The request is well-formed, but cannot be processed."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    default_detail = "The request cannot be processed."
    default_code = "unprocessable"


class TooLarge(exceptions.APIException):
    """The body is larger than the service accepts."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."
    default_code = "too_large"


class Unavailable(exceptions.APIException):
    """A dependency of the service does not respond."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = "The service is temporarily unavailable; try again."
    default_code = "unavailable"
    wait = 1


def problem(status: int, detail: str = "", errors: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    """The members of a problem document; `errors` maps the path of a field (`items.0.price`) to its error messages."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": int(status)}
    if detail:
        body["detail"] = detail
    body["requestId"] = current_request_id()
    if errors:
        body["errors"] = dict(errors)
    return body


def problem_response(status: int, detail: str = "", errors: Mapping[str, list[str]] | None = None) -> HttpResponse:
    """A problem document as a plain Django response."""
    return HttpResponse(json.dumps(problem(status, detail, errors)), status=status, content_type=CONTENT_TYPE)


class ProblemResponse(Response):
    """A problem document from an API view; the browsable API shows it as a page."""

    @property
    def rendered_content(self) -> Any:
        """The body; also sets the content type."""
        if isinstance(self.accepted_renderer, BrowsableAPIRenderer):
            return super().rendered_content
        # Independently of the negotiated format, since some renderers cannot render errors.
        self["Content-Type"] = CONTENT_TYPE
        return json.dumps(self.data)


def by_field(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Flatten REST framework's nested validation errors into a mapping from a field's path to its messages.

    Errors of a list or an object as a whole have its own path; those of the outermost one have the path `body`.
    """
    if isinstance(detail, Mapping):
        children = detail.items()
    elif isinstance(detail, list) and any(isinstance(child, Mapping | list) for child in detail):
        children = enumerate(detail)  # type: ignore[assignment]
    else:
        messages = detail if isinstance(detail, list) else [detail]
        return {path: [str(message) for message in messages]} if messages else {}
    found: dict[str, list[str]] = {}
    for name, child in children:
        if name == api_settings.NON_FIELD_ERRORS_KEY:
            found.update(by_field(child, path or "body"))
        else:
            found.update(by_field(child, f"{path}.{name}" if path else str(name)))
    return found


def exception_handler(exception: Exception, context: Mapping[str, Any]) -> Response | None:
    """REST framework's hook: the response for an exception in an API view; None leaves a bug to `server_error`."""
    known = _as_api_exception(exception)
    if known is None:
        return None
    headers = {}
    if getattr(known, "wait", None):
        headers["Retry-After"] = str(int(known.wait))  # type: ignore[attr-defined]
    if getattr(known, "auth_header", None):
        headers["WWW-Authenticate"] = str(known.auth_header)  # type: ignore[attr-defined]
    status = int(known.status_code)
    if isinstance(known.detail, str):
        body = problem(status, str(known.detail))
    else:
        body = problem(status, _summary(known), by_field(known.detail))
        # The browsable API takes the form, with its values and error messages, from here.
        if serializer := getattr(known.detail, "serializer", None):
            body = ReturnDict(body, serializer=serializer)
    return ProblemResponse(body, status=status, headers=headers)


def _summary(error: exceptions.APIException) -> str:
    return "The request is not valid." if isinstance(error, exceptions.ValidationError) else str(error.default_detail)


def _as_api_exception(exception: Exception) -> exceptions.APIException | None:
    known: exceptions.APIException | None = None
    match exception:
        case exceptions.APIException():
            known = exception
        case Http404():
            known = exceptions.NotFound()
        case PermissionDenied():
            known = exceptions.PermissionDenied()
        case RequestDataTooBig():
            known = TooLarge()
        case SuspiciousOperation() | UnreadablePostError():
            known = exceptions.ParseError("The request is malformed.")
        case DatabaseError() | InterfaceError() if failures.is_unavailable(exception):
            known = _unavailable(exception)
    return known


def _unavailable(error: Exception) -> Unavailable:
    failures.close_connection()
    # Its text may contain values of the row, so only its type is logged.
    log.error("database unavailable", error=type(error.__cause__ or error).__name__)
    return Unavailable()


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 400: an unknown host, a body that is too large, an invalid path."""
    if isinstance(exception, RequestDataTooBig):
        return problem_response(TooLarge.status_code, TooLarge.default_detail)
    return problem_response(HTTPStatus.BAD_REQUEST, "The request is malformed, or its host is not served here.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 403."""
    return problem_response(HTTPStatus.FORBIDDEN)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's 403 for a form without a valid CSRF token (CSRF_FAILURE_VIEW)."""
    return problem_response(HTTPStatus.FORBIDDEN, "The form's CSRF token is missing or expired: reload the page.")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 404."""
    return problem_response(HTTPStatus.NOT_FOUND, "There is nothing at this path.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's 500; the log contains the exception, and the response the request id to find it."""
    return problem_response(
        HTTPStatus.INTERNAL_SERVER_ERROR, "An internal error; the request id identifies it in the logs."
    )


class ProblemMiddleware:
    """Adds a problem document to error responses without a body, such as Django's own 405.

    Pages that are not API views, such as the admin's, also respond with 503 if the database is unavailable.
    """

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        response = self.get_response(request)
        if response.status_code in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
            # Django sends 0, but a 304's length would be that of the full response, and a 204 has none (RFC 9110, 8.6).
            del response["Content-Length"]
        if response.status_code >= 400 and isinstance(response, HttpResponse) and not response.content:
            response.content = json.dumps(problem(response.status_code))
            response["Content-Type"] = CONTENT_TYPE
            if response.has_header("Content-Length"):
                response["Content-Length"] = str(len(response.content))
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Django's hook for exceptions of views."""
        if not failures.is_unavailable(exception):
            return None
        known = _unavailable(exception)
        response = problem_response(known.status_code, known.default_detail)
        response["Retry-After"] = str(known.wait)
        return response
