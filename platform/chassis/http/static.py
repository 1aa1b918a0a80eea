"""Static files: the styles and scripts of the pages."""

from collections.abc import AsyncIterator
from typing import IO, Any, cast

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseFileResponse, WhiteNoiseMiddleware

CHUNK = 65_536


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise's middleware without ranges, since it responds to HEAD with a range, and ignores If-Range.

    A server may ignore Range (RFC 9110, 14.2), but not If-Range (13.1.5).
    """

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponseBase:
        """Respond with the whole file."""
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])  # WhiteNoise's own response has no body and no content type
        request.META.pop("HTTP_RANGE", None)
        response: WhiteNoiseFileResponse = WhiteNoiseMiddleware.serve(static_file, request)
        if isinstance(request, ASGIRequest) and response.file_to_stream is not None:
            # Otherwise Django reads the whole file first, and keeps it in memory while the client reads the response.
            response.streaming_content = _chunks(response.file_to_stream)
        return cast("HttpResponseBase", response)


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    # The file is in the page cache, so reading it in a thread would take longer.
    while chunk := file.read(CHUNK):
        yield chunk
