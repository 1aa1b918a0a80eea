"""X-Forwarded-Prefix and X-Forwarded-For: links contain the prefix that the gateway strips, and REMOTE_ADDR is the client's.

Django itself handles the host and the scheme (USE_X_FORWARDED_HOST, SECURE_PROXY_SSL_HEADER).
"""

import ipaddress
import re
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_script_prefix, set_script_prefix

PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,8}")
"""Any other prefix is ignored: `//host`, for example, would make every link lead to another host."""


class ForwardedMiddleware:
    """Applies the proxy's X-Forwarded-Prefix and X-Forwarded-For, if TRUST_FORWARDED_HEADERS is true."""

    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not settings.TRUST_FORWARDED_HEADERS:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
        client = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
        if _is_address(client):
            # Only the last address was added by the trusted proxy; the client may have sent those before it.
            request.META["REMOTE_ADDR"] = client
        prefix = request.META.get("HTTP_X_FORWARDED_PREFIX", "").rstrip("/")
        if not PREFIX.fullmatch(prefix):
            return self.get_response(request)
        outside = get_script_prefix()
        request.META["SCRIPT_NAME"] = prefix
        request.path = f"{prefix}{request.path_info}"
        set_script_prefix(f"{prefix}/")
        try:
            return self.get_response(request)
        finally:
            set_script_prefix(outside)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
