"""One request of one client: what it asks for, who answers it, and the answer on its way back."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Protocol

from gateway import problems
from gateway.connection import Header
from gateway.edge import answers
from gateway.edge.outgoing import Outgoing
from gateway.problems import Refused
from gateway.trace import Trace

if TYPE_CHECKING:
    from gateway.edge.bodies import Body
    from gateway.edge.client import Client
    from gateway.edge.heads import Head
    from gateway.headers import Read
    from gateway.routes import Route

LEFT = 499
"""What logs and metrics say of a client that left before its answer; nobody receives it."""


class ClientLeft(Exception):
    """The client has closed the connection; there is nobody to answer."""


class Handler(Protocol):
    """Who answers requests: the proxy, or Django's pages."""

    most_body: int
    """Bytes of the largest body that it takes."""

    keeps_body: bool
    """Whether it wants to have the body; else it is counted and dropped."""

    def accept(self, call: "Call") -> None:
        """Look at the head, before the body is read. Raises Refused."""

    def run(self, call: "Call") -> None:
        """The whole request is here: answer it, and say `call.finished()` at the end. Does not raise."""

    def fail(self, call: "Call", error: Exception) -> None:
        """End a call that cannot be answered as it should be: ClientLeft, Refused, or what went wrong."""


class Call:
    """One request of one client. Its answer is written by `answer`, or by `start`, `write` and `end`."""

    __slots__ = (
        "_chunked", "_client", "_interruption", "_outgoing", "_waits_for_client", "aborted", "body", "deadline",
        "handler", "head", "on_interrupt", "read", "reason", "replica", "request_id", "route", "started",
        "started_at", "status", "target", "task", "trace",
    )  # fmt: skip

    handler: Handler
    read: "Read"
    route: "Route"
    target: bytes

    def __init__(self, client: "Client", head: "Head", *, now: float, timeout: float) -> None:
        self._client = client
        self._interruption: Exception | None = None
        self._outgoing: Outgoing | None = None
        self._chunked = False
        self._waits_for_client = False
        self.head = head
        self.body: Body | None = None
        self.started_at = now
        self.deadline = now + timeout
        self.request_id = ""
        self.trace: Trace | None = None
        self.status = 500
        self.started = False
        self.aborted = False
        self.reason = ""
        """Why the gateway answers with a 5xx of its own, or breaks an answer off, for the log."""
        self.replica = ""
        """Which replica was asked last, for the log."""
        self.task: asyncio.Task[None] | None = None
        self.on_interrupt: Callable[[], None] | None = None
        """Lets go of what this call holds while no task of its own runs that would do so."""

    @property
    def client(self) -> "Client":
        """The connection that it came on."""
        return self._client

    @property
    def method(self) -> str:
        """The request's method, in the case in which it came."""
        return self.head.method

    # --- its end before its time ---

    def expire(self) -> None:
        """Called by the clock (`watch.py`): its time is over."""
        if self._client.awaits_body:
            self.interrupt(Refused(408, "The request's body did not come in time.", ((b"connection", b"close"),)))
        else:
            self.interrupt(Refused(504, "The service did not answer in time.", reason="timeout"))

    def abandon(self) -> None:
        """It could not be ended as it should be."""
        self._client.make_room()

    def gone(self) -> None:
        """The client has left."""
        self.interrupt(ClientLeft())

    def interrupt(self, reason: Exception) -> None:
        """End what is being done for this call; the first reason counts."""
        if self._interruption is not None:
            return
        self._interruption = reason
        if self.task is not None:
            self.task.cancel()
            if self.on_interrupt is None:
                return
            # One that has not begun to run never will: it cannot end the call.
        if self.on_interrupt is not None:
            self.on_interrupt()
        self.handler.fail(self, reason)

    @property
    def interruption(self) -> Exception | None:
        """Why this call's task was cancelled; None when it was not us."""
        return self._interruption

    def finished(self) -> None:
        """Nothing more is done for this call: the connection may carry the next."""
        self.task = self.on_interrupt = None
        if self.body is not None:
            self.body.release()
            self.body = None
        if self._outgoing is not None:
            self._outgoing.close()
            self._outgoing = None
        self._client.answered(self)

    # --- the answer ---

    def answer(self, status: int, fields: list[Header], body: bytes) -> None:
        """Send a whole answer with one write. What its length is stands in `fields`, or nothing does."""
        self.status = status
        self.started = True
        head = answers.head(status, fields, close=self._client.closes(fields))
        self._client.output.write(head if self.head.method == "HEAD" else head + body)

    def interim(self, status: int, fields: list[Header]) -> None:
        """Send an interim answer (103, say), which HTTP/1.0 does not know."""
        if self.head.minor and not self.started:
            self._client.output.write(answers.interim(status, fields))

    def start(self, status: int, fields: list[Header]) -> None:
        """Send the head of an answer, whose body follows by `write` and `end`."""
        self.status = status
        self.started = True
        if not answers.bodiless(status) and not any(name == b"content-length" for name, _ in fields):
            if self.head.minor and self.head.method != "HEAD":
                fields.append((b"transfer-encoding", b"chunked"))
                self._chunked = True
            else:
                self._client.keep = False
        self._client.output.write(answers.head(status, fields, close=self._client.closes(fields)))
        self._outgoing = Outgoing(self._client.output, self._client.edge.room)

    async def write(self, data: bytes) -> None:
        """Send a piece of the body, as fast as the client takes it; does not wait for that while there is room."""
        assert self._outgoing is not None
        await self._outgoing.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def drain(self) -> None:
        """Wait until the client takes more."""
        if not self._client.output.is_writable:
            await self._wait_for_client(self._client.output.drain())

    async def end(self) -> None:
        """There is no more; waits until the client has taken all of it."""
        assert self._outgoing is not None
        if self._chunked:
            await self._outgoing.send(b"0\r\n\r\n")
        if not self._outgoing.is_empty:
            await self._wait_for_client(self._outgoing.sent())

    async def _wait_for_client(self, until: Coroutine[None, None, None]) -> None:
        # It is the client's turn: its place may be needed for another.
        self._waits_for_client = True
        self._client.edge.connections.waits(self._client)
        await until
        self._client.edge.connections.works(self._client)
        self._waits_for_client = False

    def refuse(self, refused: Refused) -> None:
        """Answer with a problem, or, in the middle of an answer, leave it broken off so that the client can tell."""
        if self.started:
            self.aborted = True
            self.reason = "slow_client" if self._waits_for_client else refused.reason
            return
        path = self.head.path.decode("latin-1")
        content = problems.body(refused.status, refused.detail, instance=path, request_id=self.request_id)
        self.reason = refused.reason if refused.status >= 500 else ""
        origins = self._client.edge.origins.fields(self.head.fields)
        fields = [*problems.headers(content, self.request_id), *refused.headers, *origins]
        self.answer(refused.status, fields, content)
