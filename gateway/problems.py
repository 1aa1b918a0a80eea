"""Errors of the gateway, as RFC 9457 problems. They name no address, no replica and no exception."""

from http import HTTPStatus

import orjson

from gateway.connection import ClosedWithoutResponse, ConnectTimeout, Header, InvalidResponse, NotConnected


class Refused(Exception):
    """The gateway responds instead of the service, with `status` and a `detail` that is safe to show to anyone."""

    def __init__(self, status: int, detail: str, headers: tuple[Header, ...] = (), *, reason: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.reason = reason
        """The reason in the log, in one word."""


INTERNAL_ERROR = Refused(
    500, "An internal error occurred; the request id identifies it in the logs.", reason="internal_error"
)


def of(error: Exception) -> Refused:
    """The response to the client after a failed exchange."""
    match error:
        case Refused():
            return error
        case ConnectTimeout():
            return Refused(504, "Connecting to the service timed out.", reason="connect_timeout")
        case NotConnected():
            return Refused(502, "The service cannot be reached.", ((b"retry-after", b"1"),), reason="not_connected")
        case ClosedWithoutResponse():
            return Refused(
                502, "The service closed the connection without a response.", reason="closed_without_response"
            )
        case InvalidResponse():
            return Refused(502, "The service sent an invalid response.", reason="invalid_response")
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
