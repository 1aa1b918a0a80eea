"""Who uses the console. The services record who did what, so the console asks for a name once, and keeps it in a cookie."""

from urllib.parse import quote, unquote

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from chassis.text import first_refused, is_visible
from console import system

LONGEST = 150
"""Maximum number of characters of a name, as in the services' endpoints for staff."""
YEAR_SECONDS = 365 * 24 * 3600


def cookie_name() -> str:
    """The name of the cookie; all ports of a host share their cookies."""
    return f"console_operator_{settings.CONSOLE_PORT}"


def cleaned(text: str) -> str:
    """A name without spaces around it; empty if it is not a name: of 1 to LONGEST visible characters."""
    name = text.strip()
    is_name = 0 < len(name) <= LONGEST and is_visible(name) and first_refused(name) is None
    return name if is_name else ""


def named(request: HttpRequest) -> str:
    """The name that was given in this browser; empty if none was."""
    return cleaned(unquote(request.COOKIES.get(cookie_name(), "")))


def name_of(request: HttpRequest) -> str:
    """The name that was given, or else the user of this machine."""
    return named(request) or system.operator()


def remember(response: HttpResponseBase, name: str) -> None:
    """Keep the name in the browser."""
    response.set_cookie(cookie_name(), quote(name), max_age=YEAR_SECONDS, httponly=True, samesite="Strict", path="/")
