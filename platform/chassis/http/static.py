"""Styles and scripts of the pages."""

from collections.abc import AsyncIterator
from typing import IO, Any, cast

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseFileResponse, WhiteNoiseMiddleware

PIECE = 65_536


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise's, whose files come whole: it would answer HEAD with a range, and one of a file that If-Range says is another.

    A server may pass over Range (RFC 9110, 14.2), but not over If-Range (13.1.5).
    """

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponseBase:
        """Answer with a file."""
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])  # WhiteNoise's own has no body, and no type
        request.META.pop("HTTP_RANGE", None)
        response: WhiteNoiseFileResponse = WhiteNoiseMiddleware.serve(static_file, request)
        if isinstance(request, ASGIRequest) and response.file_to_stream is not None:
            # Else Django would read the whole file first, and hold it for as long as the client takes to read it.
            response.streaming_content = _pieces(response.file_to_stream)
        return cast("HttpResponseBase", response)


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    # The system has it in memory: to hop to a thread would take longer.
    while piece := file.read(PIECE):
        yield piece
