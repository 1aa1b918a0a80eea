"""Forwards header fields in both directions: removes hop-by-hop fields (RFC 9110) and adds those of the gateway.

Services trust the fields that they receive. Therefore the X-Forwarded fields, the request id and the framing are always
those of the gateway, and names with an underscore are dropped, since WSGI treats `X_Request_Id` like `X-Request-Id`.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.http.request import split_domain_port, validate_host

from chassis.http.forwarded import Proxies
from chassis.observability import correlation
from gateway.connection import Header
from gateway.problems import Reason, Refused

# Handled individually: rewritten or not forwarded.
_OWN = frozenset(
    {
        b"host", b"content-length", b"transfer-encoding", b"expect", b"x-request-id", b"traceparent", b"tracestate",
        b"forwarded", b"x-real-ip", b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate",
        b"proxy-authorization", b"proxy", b"te", b"trailer", b"upgrade", b"http2-settings", b"via", b"max-forwards",
    }
)  # fmt: skip

_NOT_RETURNED = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer",
        b"transfer-encoding", b"upgrade", b"date", b"server", b"x-request-id",
    }
)  # fmt: skip

_random = random.Random()  # noqa: S311  seeded by the system, since ids must differ between processes
_UUID_MASK = ~(0xF << 76 | 0x3 << 62)
_UUID_VERSION = 4 << 76 | 2 << 62

_PREFIX = re.compile(rb"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,8}")


@dataclass(slots=True)
class RequestHeader:
    """A request header: the lines that are forwarded unchanged, and the fields that the gateway handles itself."""

    lines: list[bytes]
    own: dict[bytes, bytes]

    @property
    def content_types(self) -> int:
        """The number of Content-Type fields."""
        return sum(line.startswith(b"content-type:") for line in self.lines)

    @property
    def has_idempotency_key(self) -> bool:
        """Whether the client sent an Idempotency-Key."""
        return any(line.startswith(b"idempotency-key:") for line in self.lines)

    def request_id(self) -> str:
        """The client's request id if it is a valid token, otherwise a new one."""
        offered = self.own.get(b"x-request-id")
        if offered is not None:
            token = offered.decode("latin-1")
            if correlation.sane(token):
                return token
        return _new_id()


def read(headers: Iterable[Header]) -> RequestHeader:
    """Separate the fields that are forwarded from those of the gateway. Repeated fields of the gateway are joined by a comma."""
    lines: list[bytes] = []
    own: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _OWN or name.startswith(b"x-forwarded-"):
            own[name] = b"%b, %b" % (own[name], value) if name in own else value
        elif b"_" not in name:
            lines.append(b"%b: %b\r\n" % (name, value))
    if b"connection" in own:
        lines = _without_nominated(lines, own[b"connection"])
    return RequestHeader(lines, own)


def _without_nominated(lines: list[bytes], connection: bytes) -> list[bytes]:
    nominated = {token.strip().lower() for token in connection.split(b",")} - {b"close", b"keep-alive", b""}
    if not nominated:
        return lines
    return [line for line in lines if line.partition(b":")[0] not in nominated]


def _new_id() -> str:
    # A random UUID like that of correlation.new(), but without a system call: it must be unique, not secret.
    text = f"{_random.getrandbits(128) & _UUID_MASK | _UUID_VERSION:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Forwarding:
    """Writes the fields that describe the original request to a service, and checks the requested host."""

    def __init__(self, *, allowed_hosts: list[str], proxies: Proxies, prefix: bytes) -> None:
        self._allowed = allowed_hosts
        self._proxies = proxies
        self._prefix = prefix
        self._hosts: set[bytes] = set()

    def lines(self, own: dict[bytes, bytes], *, client: str, host: bytes, minor: int) -> bytes:
        """The X-Forwarded lines and Via. Those of the client are used only if it is a trusted proxy (TRUSTED_PROXIES).

        Raises Refused (400) for a host that is not served.
        """
        prefix, scheme, forwarded_for = self._prefix, b"http", client.encode()
        trusted = self._proxies.trusts(client)
        host = self._served(own.get(b"x-forwarded-host", host) if trusted else host)
        if trusted:
            if b"x-forwarded-for" in own:
                forwarded_for = b"%b, %b" % (own[b"x-forwarded-for"], forwarded_for)
            if own.get(b"x-forwarded-proto") in {b"http", b"https"}:
                scheme = own[b"x-forwarded-proto"]
            outer = own.get(b"x-forwarded-prefix", b"").rstrip(b"/")
            if _PREFIX.fullmatch(outer):
                prefix = outer + prefix
        via = b"1.%d gateway" % minor
        if b"via" in own:
            via = b"%b, %b" % (own[b"via"], via)
        return (
            b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Prefix: %b\r\nVia: %b\r\n"
            % (forwarded_for, scheme, host, prefix, via)
        )

    def host(self, own: dict[bytes, bytes], *, client: str, host: bytes) -> bytes:
        """The requested host. Raises Refused (400) for a host that is not served."""
        return self._served(own.get(b"x-forwarded-host", host) if self._proxies.trusts(client) else host)

    def _served(self, host: bytes) -> bytes:
        if host not in self._hosts:
            self._check(host)
        return host

    def _check(self, host: bytes) -> None:
        domain, _ = split_domain_port(host.decode("latin-1"))
        if not domain or not validate_host(domain, self._allowed):
            raise Refused(400, "This host is not served.", reason=Reason.UNKNOWN_HOST)
        # With a wildcard in ALLOWED_HOSTS there is no limit to the number of hosts.
        if len(self._hosts) < 1000:
            self._hosts.add(host)


def interim(headers: list[Header]) -> list[Header]:
    """The header of an interim response, for the client."""
    return [header for header in headers if header[0] not in _NOT_RETURNED and header[0] != b"content-length"]


def returned(headers: list[Header], *, status: int, request_id: bytes) -> list[Header]:
    """The header of a response, for the client."""
    bodiless = status in (204, 304)
    kept: list[Header] = []
    connection = b""
    for header in headers:
        name = header[0]
        if name not in _NOT_RETURNED:
            # Without a body there is no Content-Length: a client might wait for the body.
            if bodiless and name == b"content-length":
                continue
            kept.append(header)
        elif name == b"connection":
            connection += header[1] + b","
    if connection:
        nominated = {token.strip().lower() for token in connection.split(b",")}
        kept = [header for header in kept if header[0] not in nominated or header[0] == b"content-length"]
    kept.append((b"x-request-id", request_id))
    return kept
