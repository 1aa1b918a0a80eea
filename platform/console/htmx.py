"""What htmx asks for: a part of a page, which it puts into the page that is open, or a whole page."""

from django.http import HttpRequest


def wants_part(request: HttpRequest) -> bool:
    """Whether only a part of the page is wanted.

    When the browser goes back to a page that is no longer there, htmx requests it like a part, but needs the whole.
    """
    return "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers


def target(request: HttpRequest) -> str:
    """The id of the element that the part is for; empty if the whole page is wanted, or the element has no id."""
    return request.headers.get("HX-Target", "") if wants_part(request) else ""
