"""One AsyncAPI document of all events, merged from the documents of the services.

The sender and the receiver both describe a message, the receiver only the fields that it reads. The description of the
sender is used.
"""

from collections.abc import Mapping
from typing import Any

from gateway import routes
from gateway.documents import Copy, collect, notices

ASYNCAPI_VERSION = "3.0.0"

Document = dict[str, Any]


async def document() -> Document:
    """The merged document, from the available documents."""
    return merge(await collect("/asyncapi", routes.SERVICE_NAMES))


def merge(copies: Mapping[str, Copy]) -> Document:
    """Merge the documents of the services. Missing and outdated ones are named in `info` and `x-missing-services`."""
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
