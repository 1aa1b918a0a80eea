"""Errors of the gateway, as RFC 9457 problems. They name no address, no replica and no exception."""

from enum import StrEnum
from http import HTTPStatus

import orjson

from gateway.connection import ClosedWithoutResponse, ConnectTimeout, Header, InvalidResponse, NotConnected


class Reason(StrEnum):
    """Why the gateway itself responded with an error, or aborted a response: in the log, and in `gateway_errors_total`."""

    INVALID_REQUEST = "invalid_request"
    INVALID_BODY = "invalid_body"
    UNKNOWN_HOST = "unknown_host"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    """The client did not send its header or its body in time."""
    BODY_TOO_LARGE = "body_too_large"
    HEADER_TOO_LARGE = "header_too_large"
    TARGET_TOO_LONG = "target_too_long"
    UNKNOWN_METHOD = "unknown_method"
    UNKNOWN_CODING = "unknown_coding"
    NO_ROOM = "no_room"
    """Memory and files for buffered bodies are used up."""
    TOO_MANY_CONNECTIONS = "too_many_connections"
    UPSTREAM_REFUSED = "upstream_refused"
    """No replica accepted a connection."""
    UPSTREAM_CONNECT_TIMEOUT = "upstream_connect_timeout"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_CLOSED = "upstream_closed"
    """The service closed the connection without a response."""
    UPSTREAM_INVALID = "upstream_invalid"
    """The response of the service is incomplete, or not valid HTTP."""
    INTERNAL_ERROR = "internal_error"
    SLOW_CLIENT = "slow_client"
    """The client did not read its response in time. Such a response is aborted, so this reason is only in the log."""


class Refused(Exception):
    """The gateway responds instead of the service, with `status` and a `detail` that is safe to show to anyone."""

    def __init__(self, status: int, detail: str, headers: tuple[Header, ...] = (), *, reason: Reason) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.reason = reason


INTERNAL_ERROR = Refused(
    500, "An internal error occurred; the request id identifies it in the logs.", reason=Reason.INTERNAL_ERROR
)


def of(error: Exception) -> Refused:
    """The response to the client after a failed exchange."""
    match error:
        case Refused():
            return error
        case ConnectTimeout():
            return Refused(504, "Connecting to the service timed out.", reason=Reason.UPSTREAM_CONNECT_TIMEOUT)
        case NotConnected():
            retry = ((b"retry-after", b"1"),)
            return Refused(502, "The service cannot be reached.", retry, reason=Reason.UPSTREAM_REFUSED)
        case ClosedWithoutResponse():
            return Refused(502, "The service closed the connection without a response.", reason=Reason.UPSTREAM_CLOSED)
        case InvalidResponse():
            return Refused(502, "The service sent an invalid response.", reason=Reason.UPSTREAM_INVALID)
    raise error


def body(status: int, detail: str, *, instance: str, request_id: str) -> bytes:
    """The problem as JSON. `instance` is the requested path, as it was received."""
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "instance": instance,
            "requestId": request_id,
        }
    )


def headers(content: bytes, request_id: str) -> list[Header]:
    """The header of a problem."""
    return [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"x-request-id", request_id.encode()),
    ]
