"""One OpenAPI document of the whole API, merged from the documents of the services.

Paths get the prefix, and are included only if they have a route. Components of different services with the same name but
different content are prefixed with the name of the service; identical ones are included once.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway import routes
from gateway.documents import Copy, collect, notices

OPENAPI_VERSION = "3.1.1"
METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})

ABOUT = """\
Users and orders, behind one gateway. Some milliseconds after `POST /api/users`, the user has a welcome order that is paid,
or whose payment failed. Errors are `application/problem+json` (RFC 9457). `/api/asyncapi` describes the events."""

GATEWAY_RESPONSES = {
    "408": "The request body was not received in time.",
    "413": "The body is too large.",
    "414": "The path and query are too long.",
    "431": "The header is too large.",
    "502": "The service cannot be reached, or its response is invalid or incomplete.",
    "503": "There is no capacity for the body or for the connection.",
    "504": "The service did not respond in time.",
}
"""Responses of the gateway itself, possible for every operation."""

PROBLEM = {
    "type": "object",
    "description": "An error, as defined by RFC 9457.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "requestId": {"type": "string", "description": "Identifies the request in logs and traces."},
    },
    "required": ["type", "title", "status", "requestId"],
}

Document = dict[str, Any]


async def document() -> Document:
    """The merged document, from the available documents."""
    copies = await collect("/schema", dict.fromkeys(route.service for route in routes.ROUTES))
    return merge(copies)


def merge(copies: Mapping[str, Copy]) -> Document:
    """Merge the documents of the services. Missing and outdated ones are named in `info` and `x-missing-services`."""
    parts = {service: copy.content for service, copy in copies.items() if copy.content}
    parts = _disambiguated(parts)
    missing = [service for service, copy in copies.items() if copy.failing]
    merged: Document = {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "API", "version": "1.0.0", "description": "\n\n".join([ABOUT, *notices(dict(copies))])},
        "servers": [{"url": "/"}],
        "tags": [{"name": service} for service in copies],
        "paths": {},
        "components": {"schemas": {"GatewayProblem": PROBLEM}, "responses": _gateway_responses()},
    }
    if missing:
        merged["x-missing-services"] = missing
    operation_ids: set[str] = set()
    for service, part in parts.items():
        for path, item in part.get("paths", {}).items():
            public = routes.to_gateway(path)
            route = routes.find(public.encode())
            if route is not None and route.service == service:
                merged["paths"][public] = _path_item(service, item, operation_ids)
        for kind, components in part.get("components", {}).items():
            merged["components"].setdefault(kind, {}).update(components)
    return merged


def _path_item(service: str, item: Document, operation_ids: set[str]) -> Document:
    """The operations of a path, with unique ids and with the responses of the gateway itself."""
    result = dict(item)
    for method in METHODS & item.keys():
        operation = dict(item[method])
        name = operation.get("operationId")
        if name is not None:
            if name in operation_ids:
                operation["operationId"] = name = f"{service}_{name}"
            operation_ids.add(name)
        own = {status: {"$ref": f"#/components/responses/Gateway{status}"} for status in GATEWAY_RESPONSES}
        operation["responses"] = own | operation.get("responses", {})
        result[method] = operation
    return result


def _gateway_responses() -> Document:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/GatewayProblem"}}}
    return {
        f"Gateway{status}": {"description": meaning, "content": content}
        for status, meaning in GATEWAY_RESPONSES.items()
    }


# --- name conflicts ---

Name = tuple[str, str]
"""Kind and name of a component: `("schemas", "Order")`."""


def _disambiguated(parts: Mapping[str, Document]) -> dict[str, Document]:
    conflicting = _conflicting(parts)
    return {service: _renamed(part, service, conflicting) for service, part in parts.items()}


def _conflicting(parts: Mapping[str, Document]) -> set[Name]:
    """Components that differ between the documents, and those that refer to them."""
    meanings: dict[Name, list[Any]] = {}
    for part in parts.values():
        for kind, components in part.get("components", {}).items():
            for name, meaning in components.items():
                meanings.setdefault((kind, name), []).append(meaning)
    shared = {name: found for name, found in meanings.items() if len(found) > 1}
    conflicting = {name for name, found in shared.items() if any(meaning != found[0] for meaning in found)}
    while True:
        dependent = {
            name for name, found in shared.items() if name not in conflicting and conflicting & set(_references(found))
        }
        if not dependent:
            return conflicting
        conflicting |= dependent


_REFERENCE = re.compile(r"#/components/([^/]+)/([^/]+)")


def _references(node: Any) -> Iterator[Name]:
    if isinstance(node, dict):
        target = _REFERENCE.fullmatch(str(node.get("$ref", "")))
        if target:
            yield target[1], target[2]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _renamed(part: Document, service: str, conflicting: set[Name]) -> Document:
    def new(kind: str, name: str) -> str:
        return f"{service.capitalize()}{name}" if (kind, name) in conflicting else name

    def rewritten(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: rewritten(child) for key, child in node.items()}
        if isinstance(node, list):
            return [rewritten(child) for child in node]
        target = _REFERENCE.fullmatch(node) if isinstance(node, str) else None
        return f"#/components/{target[1]}/{new(target[1], target[2])}" if target else node

    result: Document = rewritten(part)
    result["components"] = {
        kind: {new(kind, name): meaning for name, meaning in components.items()}
        for kind, components in result.get("components", {}).items()
    }
    return result
