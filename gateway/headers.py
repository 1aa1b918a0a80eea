"""What of a header is passed on, in both directions: RFC 9110's hop-by-hop fields go, ours come.

Whoever writes to the service decides what it believes. So the X-Forwarded fields, the request id and the framing are
always the gateway's own, and a name with an underscore is dropped: WSGI takes `X_Request_Id` for `X-Request-Id`.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.http.request import split_domain_port, validate_host

from chassis.http.forwarded import Proxies
from chassis.observability import correlation
from gateway.connection import Header
from gateway.problems import Refused

# Looked at one by one, and written anew or not at all.
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

_random = random.Random()  # noqa: S311  seeded by the system, as the ids must differ between processes
_UUID_MASK = ~(0xF << 76 | 0x3 << 62)
_UUID_VERSION = 4 << 76 | 2 << 62

_PREFIX = re.compile(rb"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,8}")


@dataclass(slots=True)
class RequestHeader:
    """A request's header: the lines that pass unchanged, and the fields that the gateway looks at."""

    lines: list[bytes]
    own: dict[bytes, bytes]

    @property
    def content_types(self) -> int:
        """How many Content-Type fields there are."""
        return sum(line.startswith(b"content-type:") for line in self.lines)

    @property
    def has_idempotency_key(self) -> bool:
        """Whether the client has thought of repeats itself."""
        return any(line.startswith(b"idempotency-key:") for line in self.lines)

    def request_id(self) -> str:
        """The client's request id when it is a sane token, else a new one."""
        offered = self.own.get(b"x-request-id")
        if offered is not None:
            token = offered.decode("latin-1")
            if correlation.sane(token):
                return token
        return _new_id()


def read(headers: Iterable[Header]) -> RequestHeader:
    """Part a request's header into what passes and what is ours. What of ours comes twice is joined by a comma."""
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
    # A random UUID like correlation.new()'s, without a system call for each: it must be unique, not secret.
    text = f"{_random.getrandbits(128) & _UUID_MASK | _UUID_VERSION:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Forwarding:
    """Writes the fields that tell a service who asked for what, and checks the host that was asked for."""

    def __init__(self, *, allowed_hosts: list[str], proxies: Proxies, prefix: bytes) -> None:
        self._allowed = allowed_hosts
        self._proxies = proxies
        self._prefix = prefix
        self._hosts: set[bytes] = set()

    def lines(self, own: dict[bytes, bytes], *, client: str, host: bytes, minor: int) -> bytes:
        """The X-Forwarded lines and Via. The client's own count only where it is a trusted proxy (TRUSTED_PROXIES).

        Raises Refused (400) for a host that is not served here.
        """
        prefix, scheme, forwarded_for = self._prefix, b"http", client.encode()
        host = self.host(own, client=client, host=host)
        if self._proxies.trusts(client):
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
        """The host that was asked for. Raises Refused (400) for one that is not served here."""
        if self._proxies.trusts(client):
            host = own.get(b"x-forwarded-host", host)
        if host not in self._hosts:
            self._check(host)
        return host

    def _check(self, host: bytes) -> None:
        domain, _ = split_domain_port(host.decode("latin-1"))
        if not domain or not validate_host(domain, self._allowed):
            raise Refused(400, "This host is not served here.")
        # A wildcard in ALLOWED_HOSTS lets a client choose among endless names.
        if len(self._hosts) < 1000:
            self._hosts.add(host)


def interim(headers: list[Header]) -> list[Header]:
    """The header of an interim answer as the client gets it."""
    return [header for header in headers if header[0] not in _NOT_RETURNED and header[0] != b"content-length"]


def returned(headers: list[Header], *, status: int, request_id: bytes) -> list[Header]:
    """The header of an answer as the client gets it."""
    bodiless = status in (204, 304)
    kept: list[Header] = []
    connection = b""
    for header in headers:
        name = header[0]
        if name not in _NOT_RETURNED:
            # Of a body that does not come, the length is not told: a client may wait for it.
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
