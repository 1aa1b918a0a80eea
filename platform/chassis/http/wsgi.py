"""The WSGI application of a service."""

import io
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from chassis.database import session

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


_ABSOLUTE = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


def application() -> Application:
    """Django, taking chunked bodies and absolute targets too.

    Ends the process, with a message, where its database sessions would be wrong.
    """
    django.setup(set_prefix=False)
    from chassis.http.requests import WSGIHandler  # REST framework wants the settings first

    try:
        session.check_at_start()
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    return _understood(WSGIHandler())


def _understood(inner: Application) -> Application:
    """Show Django what it does not look at itself: the length of a chunked body, and the host of an absolute target."""

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        chunked = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower() == "chunked"
        if chunked and environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
            _measure(environ)
        if target := _ABSOLUTE.match(environ.get("RAW_URI", "")):
            environ["HTTP_HOST"] = target[1]  # instead of the Host field: RFC 9112, 3.2.2
        return inner(environ, start_response)

    return serve


def _measure(environ: dict[str, Any]) -> None:
    """Give a chunked body a length: Django takes a body without one to be empty.

    The server has undone the chunks (`wsgi.input_terminated`); what is over the bound stays unread, and is a 413. A body that
    breaks off is one that is shorter than its length.
    """
    try:
        body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        length = len(body)
    except OSError:
        body, length = b"", 1
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(length)
