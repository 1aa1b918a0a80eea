"""The command that repeats the request of a story.

Bodies are not recorded. The body is put together from what the API describes, with the values of the first event that the
request caused; fields that no event has are placeholders. There are never credentials in it, since none are recorded.
"""

import json
import re
import shlex
import time
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from chassis.observability.privacy import HIDDEN
from console import operators, system
from console.failures import Away, NotFound
from console.pages.stories import curl, events
from console.pages.stories.gathering import summary_of
from console.sources.http import Client, NoAnswer
from console.sources.staff import Refused
from console.stores.model import Summary

SCHEMA_SECONDS = 30.0
"""The description of the API is fetched from the gateway at most so often, in seconds."""
DEEPEST = 6

_fetched: dict[str, tuple[float, Any]] = {}


@require_safe
def repeat(request: HttpRequest, any_id: str) -> HttpResponse:
    """The command, without personal data."""
    return _shown(request, summary_of(any_id))


@require_POST
def reveal(request: HttpRequest, any_id: str) -> HttpResponse:
    """The command with personal data, which the service that has it logs."""
    return _shown(request, summary_of(any_id), reveal_to=operators.name_of(request))


def _shown(request: HttpRequest, story: Summary, *, reveal_to: str = "") -> HttpResponse:
    values = {"story": story, **command(story, reveal_to=reveal_to), "operator": operators.name_of(request)}
    return render(request, "console/stories/repeat.html", values)


def command(story: Summary, *, reveal_to: str = "") -> dict[str, Any]:
    """`command`, or None if the story has no request; `notes`, what is not as it was; `is_masked`.

    With personal data if the name of who sees it is given.
    """
    target = curl.target_of(story)
    if target is None:
        notes = ["This story did not begin with a request to the gateway or to a service of the system."]
        return {"command": None, "notes": notes, "is_masked": False}
    options: list[str] = []
    body_notes: list[str] = []
    is_masked = False
    if story.method in {"POST", "PUT", "PATCH"}:
        body, body_notes = _body(story, target.documented_path, reveal_to=reveal_to)
        text = json.dumps(body, ensure_ascii=False)
        is_masked = HIDDEN in text
        options = ["-H 'Content-Type: application/json'", f"-d {shlex.quote(text)}"]
    lines, notes = curl.lines(story.method, target, options)
    notes += [*target.notes, *body_notes, "The query and the headers of the request are not recorded."]
    return {"command": " \\\n  ".join(lines), "notes": notes, "is_masked": is_masked, "is_revealed": bool(reveal_to)}


def _body(story: Summary, path: str, *, reveal_to: str) -> tuple[dict[str, Any], list[str]]:
    gateway = system.current().processes.web_of(curl.EDGE)
    if gateway is None:
        return {}, ["The body is not known: there is no gateway."]
    try:
        document = _document(gateway.url)
    except NoAnswer as error:
        return {}, [f"The body is not known: the gateway's description of the API cannot be read ({error})."]
    schema, example = _described(document, story.method.lower(), path)
    if not schema:
        return {}, ["The body is not known: the API does not describe one for this request."]
    values, where = _values(story, reveal_to=reveal_to)
    body, missing = {}, []
    for name, one in _properties(document, schema).items():
        if _resolved(document, one).get("readOnly"):
            continue
        if name in values:
            body[name] = values[name]
        elif name in _required(document, schema) or not values:
            body[name] = example.get(name, f"<{name}>")
            missing.append(name)
    notes = [f"The body is not recorded: it is put together from the API's description and {where}."] if where else []
    if missing:
        notes.append(f"No event tells these fields, so they are examples: {', '.join(missing)}.")
    return body, notes


def _values(story: Summary, *, reveal_to: str) -> tuple[dict[str, Any], str]:
    """The payload of the first event of the story, and where it was read."""
    places, _ = events.places_of(story)
    for place in places[:1]:
        try:
            event = events.read(story, place, reveal_to=reveal_to)
            value = json.loads(event["payload"]["content"] or "")
        except (Away, NotFound, Refused, ValueError):
            continue
        if isinstance(value, dict):
            return value, f"the event {event['topic']}"
    return {}, ""


def _document(gateway: str) -> Any:
    """The OpenAPI document of the gateway. Raises NoAnswer."""
    at, document = _fetched.get(gateway, (0.0, None))
    if document is None or time.monotonic() - at > SCHEMA_SECONDS:
        document = Client(gateway).request("GET", "/api/schema", headers={"Accept": "application/json"}).json()
        _fetched[gateway] = (time.monotonic(), document)
    return document


def _described(document: Any, method: str, path: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The schema of the body of a request, and an example; both empty if there is none."""
    paths = document.get("paths") if isinstance(document, dict) else None
    for template, operations in (paths or {}).items():
        pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in template.split("/"))
        if re.fullmatch(pattern, path) and method in operations:
            content = operations[method].get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [one.get("value") for one in content.get("examples", {}).values()]
            example = next((one for one in examples if isinstance(one, dict)), {})
            return _resolved(document, content.get("schema", {})), example
    return {}, {}


def _resolved(document: Any, schema: Any, depth: int = 0) -> Mapping[str, Any]:
    """A schema, with its reference followed."""
    if not isinstance(schema, dict):
        return {}
    reference = str(schema.get("$ref", ""))
    if not reference.startswith("#/") or depth > DEEPEST:
        return schema
    found = document
    for part in reference[2:].split("/"):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return _resolved(document, found, depth + 1)


def _properties(document: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(schema.get("properties", {}))
    for part in schema.get("allOf", ()):
        found |= _resolved(document, part).get("properties", {})
    return found


def _required(document: Any, schema: Mapping[str, Any]) -> set[str]:
    return set(schema.get("required", ())).union(
        *(_resolved(document, part).get("required", ()) for part in schema.get("allOf", ()))
    )
