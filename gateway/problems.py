"""Refusals of the proxy, as RFC 9457 problems. They name no address, no replica and no exception."""

from http import HTTPStatus

import orjson

from gateway.connection import ClosedWithoutResponse, ConnectTimeout, Header, InvalidResponse, NotConnected


class Refused(Exception):
    """The gateway answers in place of the service: `status` and a `detail` that may be shown to anybody."""

    def __init__(self, status: int, detail: str, headers: tuple[Header, ...] = (), *, reason: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.reason = reason
        """Why, in one word for the log."""


INTERNAL_ERROR = Refused(
    500, "Something went wrong here; the request id finds it in the logs.", reason="internal_error"
)


def of(error: Exception) -> Refused:
    """What a client is told about a failed exchange."""
    match error:
        case Refused():
            return error
        case ConnectTimeout():
            return Refused(504, "The service could not be reached in time.", reason="connect_timeout")
        case NotConnected():
            return Refused(502, "The service cannot be reached.", ((b"retry-after", b"1"),), reason="not_connected")
        case ClosedWithoutResponse():
            return Refused(
                502, "The service closed the connection without an answer.", reason="closed_without_response"
            )
        case InvalidResponse():
            return Refused(502, "The service's answer could not be read.", reason="invalid_response")
    raise error


def body(status: int, detail: str, *, instance: str, request_id: str) -> bytes:
    """The problem as JSON. `instance` is the path that the client asked for, as it asked for it."""
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
