"""The AsyncAPI 3 document of a service: the events that it sends and receives, generated from its event models."""

from typing import Any

from django.conf import settings

from chassis.events.event import Event
from chassis.events.registry import handlers, published
from chassis.events.schemas import schema
from chassis.kafka import names

HEADERS = {
    "ce_id": "The event's id; a duplicate has the same id.",
    "ce_specversion": "1.0",
    "ce_type": "The event's name: its topic without KAFKA_PREFIX.",
    "ce_source": "The service that published it.",
    "ce_time": "When it was published, in RFC 3339.",
    "ce_origintime": "When the request that began the chain of events was received, in RFC 3339.",
    "ce_dataschema": "The event's name and version.",
    "content-type": "application/json",
    "requestId": "The id of the request that caused the event.",
    "traceId": "Trace id, hexadecimal.",
    "spanId": "Span id, hexadecimal.",
    "traceparent": "W3C trace context.",
}


def document() -> dict[str, Any]:
    """The document of the running service."""
    sends = list(published())
    receives = [handler.event for handler in handlers().values()]
    service = settings.SERVICE_NAME
    operations: dict[str, Any] = {f"{service}.send.{event.topic}": _operation("send", event) for event in sends}
    operations |= {f"{service}.receive.{event.topic}": _operation("receive", event) for event in receives}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": f"{service} events", "version": "1.0.0"},
        "defaultContentType": "application/json",
        "channels": {event.topic: _channel(event) for event in [*receives, *sends]},
        "operations": operations,
    }


def _operation(action: str, event: type[Event]) -> dict[str, Any]:
    operation: dict[str, Any] = {"action": action, "channel": {"$ref": f"#/channels/{event.topic}"}}
    if action == "receive":
        dead = names.dead_letter_topic(names.topic(event))
        operation["description"] = f"Consumer group `{names.group()}`. Dead letters are written to `{dead}`."
    return operation


def _channel(event: type[Event]) -> dict[str, Any]:
    headers = {name: {"type": "string", "description": meaning} for name, meaning in HEADERS.items()}
    message = {
        "name": event.__name__,
        "summary": (event.__doc__ or "").strip().splitlines()[0],
        "contentType": "application/json",
        "headers": {"type": "object", "properties": headers, "required": ["ce_id", "ce_type"]},
        "payload": schema(event),
        "bindings": {"kafka": {"key": {"type": "string", "description": "The aggregate's id."}}},
    }
    return {"address": names.topic(event), "messages": {event.__name__: message}}
