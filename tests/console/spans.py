"""Makes OTLP requests as processes send them."""

import itertools
import secrets

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

START = 1_800_000_000_000_000_000
_clock = itertools.count(START, 1_000_000)


def pairs(values: dict) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in values.items()]


def _value(value) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case list():
            return AnyValue(array_value=ArrayValue(values=map(_value, value)))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    kinds = {bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
    return AnyValue(**{kinds.get(type(value), "string_value"): value})


def span(trace: str, name: str = "GET /x", *, kind: str = "SERVER", parent: str = "", error=None, **more) -> Span:
    begun = next(_clock)
    return Span(
        trace_id=bytes.fromhex(trace),
        span_id=more.get("span_id", secrets.token_bytes(8)),
        parent_span_id=bytes.fromhex(parent),
        name=name,
        kind=f"SPAN_KIND_{kind}",
        start_time_unix_nano=more.get("begun", begun),
        end_time_unix_nano=more.get("ended", begun + 5_000_000),
        attributes=pairs(more.get("attributes", {})),
        events=[
            Span.Event(name=event, time_unix_nano=begun, attributes=pairs(details))
            for event, details in more.get("events", [])
        ],
        links=[
            Span.Link(trace_id=bytes.fromhex(other), span_id=secrets.token_bytes(8)) for other in more.get("links", [])
        ],
        status=Status(code=Status.STATUS_CODE_ERROR, message=error) if error is not None else Status(),
    )


def request(
    *spans: Span, service: str = "users", role: str = "web", instance: str = "host:1"
) -> ExportTraceServiceRequest:
    described = pairs({"service.name": service, "process.role": role, "service.instance.id": instance})
    resource = ResourceSpans(resource=Resource(attributes=described), scope_spans=[ScopeSpans(spans=spans)])
    return ExportTraceServiceRequest(resource_spans=[resource])


def new_trace() -> str:
    return secrets.token_hex(16)


def http(method: str = "GET", route: str = "/api/users", status: int = 200, **more) -> dict:
    named = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    return {**named, **more}
