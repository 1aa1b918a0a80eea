"""The server that the gateway runs on: uvicorn, with bounds on what a client may send before the application sees it.

uvicorn by itself takes a header of any size, waits for ever for its end, says 400 in plain text, and takes the trailers
of a chunked body for header fields. Any other ASGI server runs `gateway.asgi` too, without these bounds.
"""

import asyncio
import signal
import sys
import threading
from functools import partial
from typing import Any

import httptools
import uvicorn
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from chassis.observability import correlation
from gateway import drain, problems
from gateway.call import AT_ONCE, Scope
from gateway.connection import Header
from gateway.headers import MOST_BYTES

HEAD_SECONDS = 10.0
"""A request's header that takes longer is given up, and so is a new connection that stays silent."""

KEEP_ALIVE_SECONDS = 65
"""An idle connection of a client is closed after this long."""

SHUTDOWN_SECONDS = 12
"""After SIGTERM, requests under way have this long."""

MOST_DISCARDED = 4 * 1024 * 1024
"""Bytes that a client may go on sending after it was answered (413, say), so that it gets to read the answer."""

TICK_SECONDS = 2.5
"""How often each connection is looked at for the two times above."""


class UnknownVersion(Exception):
    """Neither HTTP/1.0 nor HTTP/1.1."""


class Protocol(HttpToolsProtocol):
    """One client's connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._head_since: float | None = self.loop.time()
        self._head_bytes = 0
        self._message_complete = True
        self._discarded = 0
        self._lingers = False
        self._ticker = self.loop.call_later(TICK_SECONDS, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or was closed."""
        self._ticker.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse what is no HTTP or whose header does not end."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The application refuses it; what came behind it is not HTTP any more.
            self.flow.pause_reading()
        except httptools.HttpParserError:
            self._refuse(400, "This is not HTTP/1.1.")
            return
        if self._head_since is not None and not self._message_complete:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_BYTES:
                self._refuse(431, f"The header is larger than {MOST_BYTES} bytes.")

    # --- httptools ---

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_since = self.loop.time()
        self._head_bytes = 0
        self._message_complete = False
        self._discarded = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field; those behind a chunked body (trailers) are dropped, as they come after all checks."""
        if self._head_since is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application."""
        if self.parser.get_http_version() not in {"1.0", "1.1"}:
            raise UnknownVersion
        self._head_since = None
        self.scope["extensions"] = {AT_ONCE: self._answer_at_once}  # type: ignore[dict-item]
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Let the application answer without a task if it can; else begin one, as uvicorn does."""
        if drain.leaving.is_set():
            cycle.keep_alive = False
        start = partial(super()._start_asgi_task, cycle, app)
        shortcut = getattr(app, "shortcut", None)
        if shortcut is None or not shortcut(cycle.scope, start):
            start()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body for the application, or let it go when it has answered already."""
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > MOST_DISCARDED:
                self.transport.close()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._message_complete = True
        super().on_message_complete()

    # --- within ---

    def _answer_at_once(self, scope: Scope, status: int, headers: list[Header], body: bytes) -> bool:
        """Send a whole answer with one write, where ASGI's two messages take two; False where that cannot be now."""
        cycle = self.cycle
        # Behind this request may be others already (pipelining); that is rare enough for the long way.
        if cycle.scope is not scope or cycle.response_started or cycle.flow.write_paused:
            return False
        if cycle.disconnected:
            return True
        lines = [b"%b: %b\r\n" % field for field in [*self.server_state.default_headers, *headers]]
        if (b"connection", b"close") in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], b"".join(lines), body))
        cycle.response_started = True
        cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _refuse(self, status: int, detail: str) -> None:
        """Answer what never became a request, or whose body broke, and close; answers under way come first."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._head_since is not None:
                # The request before this one is still being answered.
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is None or cycle.response_complete or not cycle.response_started:
            request_id = correlation.new()
            body = problems.body(status, detail, instance="", request_id=request_id)
            fields = [*problems.headers(body, request_id), (b"connection", b"close")]
            lines = b"".join(b"%b: %b\r\n" % field for field in [*self.server_state.default_headers, *fields])
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], lines, body))
        self.transport.close()

    def _tick(self) -> None:
        if self._head_since is not None and self.loop.time() - self._head_since > HEAD_SECONDS:
            self._refuse(408, "The request's header did not come in time.")
            return
        # Answered, but still sending: then uvicorn's own timer for idle connections does not run.
        answered = self.cycle is not None and self.cycle.response_complete
        lingers = answered and self._head_since is None and self.timeout_keep_alive_task is None
        if lingers and self._lingers:
            self.transport.close()
            return
        self._lingers = lingers
        self._ticker = self.loop.call_later(TICK_SECONDS, self._tick)


def config(host: str, port: int, **changes: Any) -> uvicorn.Config:
    """How the gateway is served."""
    return uvicorn.Config(
        "gateway.asgi:application",
        **{
            "host": host,
            "port": port,
            "loop": "uvloop",
            "http": Protocol,
            "ws": "none",
            "lifespan": "on",
            # Logging is the chassis', the access log the proxy's; and the proxy alone judges X-Forwarded-For.
            "log_config": None,
            "access_log": False,
            "proxy_headers": False,
            "server_header": False,
            "timeout_keep_alive": KEEP_ALIVE_SECONDS,
            "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
            **changes,
        },
    )


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; then requests under way are still answered, and the process ends with 0.

    After SIGTERM the gateway is not ready, and serves on for GATEWAY_DRAIN_SECONDS first (`drain.py`).
    """
    if threading.current_thread() is threading.main_thread():
        # uvicorn takes the signals while it serves, and raises them again at its end: as asked, not as a failure.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
    drain.Server(config(host, port), seconds=settings.GATEWAY_DRAIN_SECONDS).run()
