"""Static files: the styles and scripts of the pages."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise's middleware without ranges, since it responds to HEAD with a range, and ignores If-Range.

    A server may ignore Range (RFC 9110, 14.2), but not If-Range (13.1.5).
    """

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponseBase:
        """Respond with the whole file."""
        request.META.pop("HTTP_RANGE", None)
        response: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
        return response
