"""X-Forwarded-Prefix and X-Forwarded-For: links contain the prefix that the gateway strips, and REMOTE_ADDR is the client's.

X-Forwarded-* headers are trusted if they come from the proxies in TRUSTED_PROXIES. From any other peer they are removed from the
request, so that a client cannot choose its own address, by which admin logins are throttled, or the host and scheme of links
(Django's USE_X_FORWARDED_HOST and SECURE_PROXY_SSL_HEADER). `Forwarded` (RFC 7239) is ignored.
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
"""Any other prefix is ignored: `//host`, for example, would make every link lead to another host."""

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
        """The address of the client: the last one that is not a trusted proxy's. The client may have sent those before it."""
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
    # A dual-stack socket reports an IPv4 address as `::ffff:192.0.2.1`.
    return getattr(address, "ipv4_mapped", None) or address


class ForwardedMiddleware:
    """Applies X-Forwarded-Prefix and X-Forwarded-For of a trusted proxy, and removes X-Forwarded-* of any other peer."""

    async_capable: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.proxies = Proxies(settings.TRUSTED_PROXIES)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Process the request."""
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
