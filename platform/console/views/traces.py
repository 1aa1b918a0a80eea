"""`POST /v1/traces`: the receiver of OTLP over HTTP, as protobuf, optionally compressed with gzip."""

import zlib
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, RawPostDataException
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from console import system
from console.views.bodies import discard

MOST_BYTES = 8 * 1024 * 1024
"""Maximum size of a request, before and after it is decompressed."""
PROTOBUF = "application/x-protobuf"


class BadRequest(Exception):
    """A request is not accepted; `status` is the response's, and the message says why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def traces(request: HttpRequest) -> HttpResponse:
    """Keep the spans of a request. A client must not repeat one that is answered with 4xx."""
    if request.method != "POST":
        return HttpResponse("Send spans with POST.", status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
    try:
        message = _message(request)
    except BadRequest as error:
        return HttpResponse(f"{error}\n", status=error.status, content_type="text/plain; charset=utf-8")
    _, rejected = system.current().stories.receive(message)
    partial = (
        ExportTracePartialSuccess(rejected_spans=rejected, error_message="invalid, or too large") if rejected else None
    )
    answer = ExportTraceServiceResponse(partial_success=partial)
    return HttpResponse(answer.SerializeToString(), content_type=PROTOBUF)


def _message(request: HttpRequest) -> ExportTraceServiceRequest:
    if request.content_type != PROTOBUF:
        raise BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Spans are accepted as {PROTOBUF} only.")
    body = _decompressed(_body(request), request.headers.get("Content-Encoding", "identity").strip().lower())
    message = ExportTraceServiceRequest()
    try:
        message.ParseFromString(body)
    except DecodeError:
        reason = "This is not an ExportTraceServiceRequest; it may be truncated."
        raise BadRequest(HTTPStatus.BAD_REQUEST, reason) from None
    return message


def _body(request: HttpRequest) -> bytes:
    try:
        body = request.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            discard(request)  # and the client would send it again
    except (OSError, RawPostDataException):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "The body did not arrive.") from None
    if len(body) > MOST_BYTES:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request may have {MOST_BYTES:,} bytes.")
    return body


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "deflate"}:
        raise BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding must be gzip or deflate.")
    unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is
    try:
        plain = unpacker.decompress(body, MOST_BYTES + 1)
    except zlib.error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, f"The body is not {encoding}.") from None
    if len(plain) > MOST_BYTES or unpacker.unconsumed_tail:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request may have {MOST_BYTES:,} bytes, uncompressed.")
    if not unpacker.eof:
        raise BadRequest(HTTPStatus.BAD_REQUEST, f"The {encoding} body is truncated.")
    return plain
