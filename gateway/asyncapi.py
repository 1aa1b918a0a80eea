"""One AsyncAPI document of all events, merged from what each service says of itself.

Sender and receiver each describe a message: the receiver only what it reads of it. The sender's word counts.
"""

from collections.abc import Mapping
from typing import Any

from gateway import routes
from gateway.documents import Copy, collect, notices

ASYNCAPI_VERSION = "3.0.0"

Document = dict[str, Any]


async def document() -> Document:
    """The merged document, of what can be had now."""
    return merge(await collect("/asyncapi", routes.SERVICE_NAMES))


def merge(copies: Mapping[str, Copy]) -> Document:
    """Merge the services' documents; those that are missing or old are named in `info` and `x-missing-services`."""
    missing = [service for service, copy in copies.items() if copy.failing]
    description = "\n\n".join(["The events that the services send and receive.", *notices(dict(copies))])
    merged: Document = {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {"title": "Events", "version": "1.0.0", "description": description},
        "defaultContentType": "application/json",
        "channels": {},
        "operations": {},
    }
    if missing:
        merged["x-missing-services"] = missing
    parts = [copy.content for copy in copies.values() if copy.content]
    for part in parts:
        merged["operations"].update(part.get("operations", {}))
        for channel, meaning in part.get("channels", {}).items():
            if channel not in merged["channels"] or channel in _sent_by(part):
                merged["channels"][channel] = meaning
        for kind, components in part.get("components", {}).items():
            merged.setdefault("components", {}).setdefault(kind, {}).update(components)
    return merged


def _sent_by(part: Document) -> set[str]:
    sends = (operation for operation in part.get("operations", {}).values() if operation.get("action") == "send")
    return {operation["channel"]["$ref"].removeprefix("#/channels/") for operation in sends}
