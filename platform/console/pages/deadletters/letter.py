"""One dead letter: why the event failed, its headers and payload, and what became of it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from console import htmx, operators, payloads, system
from console.failures import NotFound
from console.pages.deadletters.groups import on_the_wire, path_of
from console.sources.staff import Refused


@require_safe
def show(request: HttpRequest, service: str, letter_id: str) -> HttpResponse:
    """The dead letter, without personal data."""
    return _page(request, service, read(service, letter_id), revealed=False)


@require_POST
def reveal(request: HttpRequest, service: str, letter_id: str) -> HttpResponse:
    """The dead letter with personal data; the service logs who saw it."""
    return _page(request, service, read(service, letter_id, reveal_to=operators.name_of(request)), revealed=True)


def read(service: str, letter_id: str, *, reveal_to: str = "") -> dict[str, Any]:
    """A dead letter of a service, with personal data if a name is given. Raises NotFound."""
    query = {"reveal": 1} if reveal_to else {}
    try:
        answer = system.current().staff.get(service, f"dead-letters/{path_of(letter_id)}", operator=reveal_to, **query)
    except Refused as error:
        if error.status in {400, 404}:
            raise NotFound(f"{service} has no dead letter {letter_id[:200]!r} among its newest ones.") from None
        raise
    if not isinstance(answer, dict):
        raise NotFound(f"{service} did not return a dead letter.")
    return answer


def _page(request: HttpRequest, service: str, letter: dict[str, Any], *, revealed: bool) -> HttpResponse:
    facts = {name: value for name, value in letter.items() if name not in {"payload", "headers", "traceback"}}
    context = {
        "service": service,
        "letter": {**payloads.visible_answer(facts), "wire": on_the_wire(letter.get("topic"))},
        "payload": payloads.shown_answer(letter["payload"]),
        "headers": payloads.shown_headers(letter.get("headers")),
        "traceback": payloads.visible(str(letter.get("traceback") or "")),
        "error": payloads.visible(str(letter.get("error") or "")),
        "revealed": revealed,
    }
    name = "console/deadletters/content.html" if htmx.wants_part(request) else "console/deadletters/letter.html"
    return render(request, name, context)
