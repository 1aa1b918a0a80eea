"""The WSGI application of a service."""

import io
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_resolver

from chassis.database import session
from chassis.health import probe
from chassis.observability import catalogue, requests, startup
from chassis.outbox import series

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


_ABSOLUTE = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


def application() -> Application:
    """Return Django's WSGI application, with support for chunked bodies and absolute request targets.

    Exits with a message if the database sessions lack the required parameters.
    """
    startup.install()
    with startup.reported():
        django.setup(set_prefix=False)
        catalogue.load(settings.SERVICE_NAME)
        catalogue.export("web", has_database=settings.SERVICE_DATABASE is not None)
        if settings.SERVICE_DATABASE:
            series.start_written()
        probe.start_series()
        # REST framework needs the settings.
        from chassis.http.plain_reads import PlainReads
        from chassis.http.requests import WSGIHandler

        try:
            session.check_at_start()
        except ImproperlyConfigured as error:
            sys.exit(str(error))
        requests.start_at_zero()
        return _normalized(PlainReads(WSGIHandler(), requests.endpoints(get_resolver().url_patterns)))


def _normalized(inner: Application) -> Application:
    """Set what Django does not derive itself: the length of a chunked body, and the host of an absolute request target."""

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        chunked = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower() == "chunked"
        if chunked and environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
            _measure(environ)
        if target := _ABSOLUTE.match(environ.get("RAW_URI", "")):
            environ["HTTP_HOST"] = target[1]  # instead of the Host field: RFC 9112, 3.2.2
        return inner(environ, start_response)

    return serve


def _measure(environ: dict[str, Any]) -> None:
    """Set the length of a chunked body, since Django treats a body without a length as empty.

    The server has decoded the chunks (`wsgi.input_terminated`). At most one byte more than the size limit is read, which
    results in a 413. An incomplete body gets a length that exceeds its size.
    """
    try:
        body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        length = len(body)
    except OSError:
        body, length = b"", 1
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(length)
