"""Behind the gateway: links carry the prefix that it takes off, and the client's address is the client's.

The host and the scheme are Django's own business (USE_X_FORWARDED_HOST, SECURE_PROXY_SSL_HEADER).
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
"""`//host` would make every link lead somewhere else; a prefix that is not plain is none."""


class ForwardedMiddleware:
    """Take X-Forwarded-Prefix and X-Forwarded-For from the proxy in front, where TRUST_FORWARDED_HEADERS says so."""

    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not settings.TRUST_FORWARDED_HEADERS:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        client = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
        if _is_address(client):
            # The last one is the address that the proxy in front saw itself; those before it are hearsay.
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
