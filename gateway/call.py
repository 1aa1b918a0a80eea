"""A client's request while it is under way: reading from the client, answering it, and noticing that it has left."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway import problems
from gateway.connection import Header
from gateway.problems import Refused
from gateway.trace import Trace

Message = Mapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

AT_ONCE = "gateway.at_once"
"""ASGI extension of our server: `f(scope, status, headers, body) -> bool` sends a whole answer at once, or cannot."""

LEFT = 499
"""What logs and metrics say of a client that left before its answer; nobody receives it."""


class ClientLeft(Exception):
    """The client has closed the connection; there is nobody to answer."""


class Call:
    """One request of one client. `expire` and `listen` are called by the clock (`watch.py`)."""

    __slots__ = (
        "_interruption", "_listener", "_loop", "_receive", "_send", "_task", "aborted", "body_read", "closing",
        "deadline", "promote", "request_id", "scope", "started", "started_at", "status", "trace",
    )  # fmt: skip

    _receive: Receive
    _send: Send

    def __init__(self, scope: Scope, *, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self.scope = scope
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._interruption: Exception | None = None
        self.started_at = loop.time()
        self.deadline = self.started_at + timeout
        self.request_id = ""
        self.trace: Trace | None = None
        self.status = 500
        self.started = False
        self.aborted = False
        self.closing = False
        self.body_read = False
        self.promote: Callable[[], None] | None = None
        """While nobody waits for this call (`Proxy.shortcut`): starts the task that does."""

    def adopt(self, receive: Receive, send: Send) -> None:
        """The current task answers this call from now on."""
        self._receive = receive
        self._send = send
        self._task = asyncio.current_task(self._loop)

    # --- the client's body ---

    async def read(self) -> tuple[bytes, bool]:
        """The next piece of the request's body, and whether more comes. Raises ClientLeft."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        return message.get("body", b""), message.get("more_body", False)

    def pump(self, pumping: Awaitable[None]) -> None:
        """Run what passes the rest of the body on, beside the answer; then listen whether the client leaves."""
        self._listener = self._loop.create_task(self._pump_then_listen(pumping))

    async def _pump_then_listen(self, pumping: Awaitable[None]) -> None:
        try:
            await pumping
        except ClientLeft:
            self._interrupt(ClientLeft())
        else:
            await self._until_gone()

    # --- the clock ---

    def listen(self) -> None:
        """Begin to look whether the client is still there, once its body has been read."""
        if self.promote is not None:
            self.promote()
            return
        if self._listener is None and self.body_read:
            self._listener = self._loop.create_task(self._until_gone())

    def expire(self) -> None:
        """Its time is over."""
        if self.promote is not None:
            self.promote()
        elif self.body_read:
            self._interrupt(Refused(504, "The service did not answer in time."))
        else:
            self._interrupt(Refused(408, "The request's body did not come in time.", ((b"connection", b"close"),)))

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._interrupt(ClientLeft())

    def _interrupt(self, reason: Exception) -> None:
        if self._interruption is None and self._task is not None:
            self._interruption = reason
            self._task.cancel()

    def interruption(self) -> Exception | None:
        """Why this call's task was cancelled; None when it was not us."""
        if self._interruption is not None and self._task is not None:
            self._task.uncancel()
        return self._interruption

    def settle(self) -> None:
        """Stop listening: the outcome is known."""
        if self._listener is not None:
            self._listener.cancel()

    # --- the answer ---

    async def answer(self, status: int, headers: list[Header], body: bytes) -> None:
        """Send a whole answer: with one write where the server can (`server.py`), else in ASGI's two messages."""
        if self.answer_at_once(status, headers, body):
            return
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    def answer_at_once(self, status: int, headers: list[Header], body: bytes) -> bool:
        """Send a whole answer without waiting; False when that cannot be."""
        if self.closing:
            headers.append((b"connection", b"close"))
        at_once = self.scope.get("extensions", {}).get(AT_ONCE)
        if at_once is None or not at_once(self.scope, status, headers, body):
            return False
        self.status = status
        self.started = True
        return True

    async def start(self, status: int, headers: list[Header]) -> None:
        """Send the head of an answer."""
        if self.closing:
            headers.append((b"connection", b"close"))
        await self._start(status, headers)

    async def _start(self, status: int, headers: list[Header]) -> None:
        self.status = status
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, more: bool) -> None:
        """Send a piece of the body; waits while the client does not take it."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def refuse(self, refused: Refused) -> None:
        """Answer with a problem, or, in the middle of an answer, leave it broken off so that the client can tell."""
        if self.started:
            self.aborted = True
            return
        path = self.scope["raw_path"].decode("latin-1")
        content = problems.body(refused.status, refused.detail, instance=path, request_id=self.request_id)
        fields = [*problems.headers(content, self.request_id), *refused.headers]
        await self.answer(refused.status, fields, content if self.scope["method"] != "HEAD" else b"")
