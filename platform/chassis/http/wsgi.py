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
    """Return Django's WSGI application, with support for chunked bodies.

    Exits with a message if the database sessions lack the required parameters.
    """
    django.setup(set_prefix=False)
    from chassis.http.requests import WSGIHandler  # REST framework needs the settings

    try:
        session.check_at_start()
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    return _with_content_length(WSGIHandler())


def _with_content_length(inner: Application) -> Application:
    """Set the length of a chunked body, since Django treats a body without a length as empty.

    The server has decoded the chunks (`wsgi.input_terminated`). At most one byte more than the size limit is read, which
    results in a 413.
    """

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        chunked = environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
        if chunked and environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
            body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return inner(environ, start_response)

    return serve
