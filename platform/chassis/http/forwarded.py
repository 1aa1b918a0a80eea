"""Behind the gateway: links carry the prefix that it takes off, and the client's address is the client's.

X-Forwarded-* are believed of the proxies in TRUSTED_PROXIES. Of anybody else they are taken out of the request, so that
nobody chooses his own address, which the throttle of the admin's login counts by, or the host and scheme that links lead to
(Django's USE_X_FORWARDED_HOST and SECURE_PROXY_SSL_HEADER). `Forwarded` (RFC 7239) is not read at all.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import ClassVar

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_script_prefix, set_script_prefix

PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,8}")
"""`//host` would make every link lead somewhere else; a prefix that is not plain is none."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """The networks of trusted proxies, from their text in CIDR form."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self.trusts = lru_cache(1000)(self._trusts)

    def _trusts(self, address: str) -> bool:
        """Whether `address` is that of a trusted proxy."""
        parsed = _address(address) if self._networks else None
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The address of the client: the last one that is no trusted proxy's. Those before it are hearsay."""
        client = peer
        for hop in reversed(forwarded_for.split(",")):
            if not self.trusts(client) or (parsed := _address(hop.strip())) is None:
                break
            client = str(parsed)
        return client


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket of both families shows an address of IPv4 as `::ffff:192.0.2.1`.
    return getattr(address, "ipv4_mapped", None) or address


class ForwardedMiddleware:
    """Take X-Forwarded-Prefix and X-Forwarded-For from a trusted proxy, and all X-Forwarded-* from anybody else's request."""

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.proxies = Proxies(settings.TRUSTED_PROXIES)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        peer = request.META.get("REMOTE_ADDR", "")
        if not self.proxies.trusts(peer):
            for name in [name for name in request.META if name.startswith("HTTP_X_FORWARDED_")]:
                del request.META[name]
            return self.get_response(request)
        request.META["REMOTE_ADDR"] = self.proxies.client(peer, request.META.get("HTTP_X_FORWARDED_FOR", ""))
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
