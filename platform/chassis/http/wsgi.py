"""The WSGI application of a service."""

import io
import sys
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from chassis.database import session

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def application() -> Application:
    """Django, taking chunked bodies too. Ends the process, with a message, where its database sessions would be wrong."""
    django.setup(set_prefix=False)
    from chassis.http.requests import WSGIHandler  # REST framework wants the settings first

    try:
        session.check_at_start()
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    return _measured(WSGIHandler())


def _measured(inner: Application) -> Application:
    """Give a chunked body a length: Django takes a body without one to be empty.

    The server has undone the chunks (`wsgi.input_terminated`); what is over the bound stays unread, and is a 413.
    """

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        chunked = environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
        if chunked and environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
            body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return inner(environ, start_response)

    return serve
