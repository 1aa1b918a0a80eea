"""Styles and scripts of the pages."""

from typing import Any

from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware


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
        response: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
        return response
