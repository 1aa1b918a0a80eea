"""The documents of the services: fetched on request, cached for a while, and longer if a service is unavailable."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from django.conf import settings

from chassis.observability import correlation
from gateway.connection import UpstreamError
from gateway.upstream import Request, Upstream

FRESH_SECONDS = 30.0
"""How long a document is cached."""

FAILED_SECONDS = 3.0
"""How long a failure is cached, so that readers of the documentation do not wait for it each time."""

TIMEOUT_SECONDS = 3.0
MAX_BYTES = 8 * 1024 * 1024

log = structlog.get_logger(__name__)


class NoDocument(Exception):
    """The service responded, but not with a document."""


@dataclass(slots=True)
class Copy:
    """A cached document. `content` is the last valid one, fetched at `since` (seconds since the epoch)."""

    content: dict[str, Any] | None = None
    since: float = 0.0
    checked: float = float("-inf")
    failing: bool = False

    @property
    def known_as_of(self) -> str:
        """When the content was fetched, in RFC 3339 format."""
        return datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_copies: dict[tuple[str, str], Copy] = {}


async def collect(path: str, services: Iterable[str]) -> dict[str, Copy]:
    """Fetch the document at `path` from all services concurrently. Those of services that do not respond are `failing`."""
    services = list(services)
    copies = await asyncio.gather(*(_copy(service, path) for service in services))
    return dict(zip(services, copies, strict=True))


def notices(copies: dict[str, Copy]) -> list[str]:
    """A notice for each service that does not respond, for the description of a merged document."""
    return [
        f"**{service}** is currently unavailable; "
        + (
            f"this document describes it as of {copy.known_as_of}."
            if copy.content
            else "this document does not include it."
        )
        for service, copy in copies.items()
        if copy.failing
    ]


async def _copy(service: str, path: str) -> Copy:
    copy = _copies.setdefault((service, path), Copy())
    now = time.monotonic()
    if now - copy.checked < (FAILED_SECONDS if copy.failing else FRESH_SECONDS):
        return copy
    try:
        status, body = await fetch(service, path, within=TIMEOUT_SECONDS)
        content = orjson.loads(body) if status == 200 else None
        if not isinstance(content, dict):
            raise NoDocument
    except (UpstreamError, TimeoutError, NoDocument, orjson.JSONDecodeError) as error:
        if not copy.failing:
            log.warning("document missing", upstream=service, path=path, reason=type(error).__name__)
        copy.failing, copy.checked = True, now
    else:
        copy.content, copy.since, copy.checked, copy.failing = content, time.time(), now, False
    return copy


async def fetch(service: str, path: str, *, within: float) -> tuple[int, bytes]:
    """GET a path of a service on a new connection, so that this can be called from any event loop.

    Returns the status and the body. Raises UpstreamError, TimeoutError.
    """
    urls = getattr(settings, f"{service.upper()}_URL")
    upstream = Upstream(service, urls, connect_timeout=settings.GATEWAY_CONNECT_TIMEOUT_SECONDS, measured=False)
    request_id = correlation.current_request_id() or correlation.new()
    rest = f"Accept: application/json\r\nX-Request-Id: {request_id}\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(within):
            exchange = await upstream.exchange(Request(f"GET {path} HTTP/1.1\r\n".encode(), rest, b"", True))
            try:
                body = b""
                while len(body) <= MAX_BYTES and (piece := await exchange.connection.body(exchange.response)):
                    body += piece
            finally:
                exchange.end()
            return exchange.response.status, body
    finally:
        upstream.close()
