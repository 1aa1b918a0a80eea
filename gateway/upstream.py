"""The replicas of a service: load balancing, connection pooling and retries."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

from gateway import metrics
from gateway.connection import ClosedWithoutResponse, Connection, ConnectTimeout, Header, NotConnected, Response

KEEP_ALIVE_SECONDS = 30.0
"""How long idle connections are kept: well below the 75 s of the services, to avoid races."""

MAX_IDLE = 128
"""Maximum number of idle connections per replica."""

COOL_DOWN_SECONDS = 1.0
"""How long a replica that could not be reached is tried last."""


@dataclass(slots=True)
class Replica:
    """One process of a service."""

    host: str
    port: int
    authority: bytes
    name: str = ""
    """`host:port`, for the log."""
    down_until: float = 0.0
    idle: list[Connection] = field(default_factory=list)
    observe: Callable[[float], None] | None = None
    """Measures how long the replica takes to respond."""

    @classmethod
    def at(cls, url: str) -> "Replica":
        """The replica at `http://host:port`."""
        parts = urlsplit(url)
        assert parts.hostname is not None, url
        return cls(parts.hostname, parts.port or 80, parts.netloc.encode(), parts.netloc)


@dataclass(slots=True)
class Request:
    """A request as sent to a service. The Host field is inserted between `start` and `rest`."""

    start: bytes
    rest: bytes
    body: bytes
    repeatable: bool
    """Whether the request has its effect once even if it is received twice."""
    is_head: bool = False
    more: Callable[[], Iterable[bytes]] | None = None
    """The body in parts, if it is too large to be sent with the head."""
    interim: Callable[[int, list[Header]], None] | None = None
    """Called with each interim response."""
    replica: str = ""
    """The replica that was used last, for the log."""
    resends: int = 0
    """How often it was sent again."""


@dataclass(slots=True)
class Exchange:
    """A request that has been sent, and its response."""

    upstream: "Upstream"
    replica: Replica
    connection: Connection
    response: Response
    sent_at: float
    measured: bool = False
    ended: bool = False

    async def head(self, request: Request) -> "Exchange":
        """Send the rest of the request, and wait for status and headers of the response.

        Raises UpstreamError after ending the exchange.
        """
        try:
            if request.more is not None:
                await self.connection.send(request.more(), self.response)
            await self.connection.head(self.response)
        except BaseException:
            self.end()
            raise
        self._measure()
        return self

    def end(self) -> None:
        """Return the connection to the pool, or close it if the exchange is incomplete."""
        if self.ended:
            return
        self.ended = True
        self._measure()
        if self.connection.finished():
            self.upstream.keep(self.replica, self.connection)
        else:
            self.connection.abort()

    def _measure(self) -> None:
        """Observe the time until the head of the response, or until the exchange ended without one. Once."""
        if not self.measured and self.replica.observe is not None:
            self.measured = True
            self.replica.observe(perf_counter() - self.sent_at)


class Upstream:
    """The replicas of a service, used in turn.

    The metrics are about requests of clients: without `measured`, these requests of the gateway itself are not counted.
    """

    def __init__(self, service: str, urls: Sequence[str], *, connect_timeout: float, measured: bool = True) -> None:
        self.service = service
        self.replicas = [Replica.at(url) for url in urls]
        self._measured = measured
        if measured:
            for replica in self.replicas:
                replica.observe = metrics.UPSTREAM_SECONDS.labels(service, replica.name).observe
        self._connect_timeout = connect_timeout
        self._turn = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def exchange(self, request: Request, begun: Exchange | None = None) -> Exchange:
        """Send a request, and wait for the head of the response. Retry once if the connection was closed without a response.

        Only `repeatable` requests are retried, on a new connection. `begun` is given if the request has already been sent.
        Raises UpstreamError.
        """
        exchange = begun or await self.send(request)
        try:
            return await exchange.head(request)
        except ClosedWithoutResponse:
            if not request.repeatable:
                raise
        if self._measured:
            metrics.RETRIES.labels(self.service).inc()
        request.resends += 1
        # The other idle connections of that replica are probably stale too.
        _close_all(exchange.replica.idle)
        return await (await self.send(request, fresh=True)).head(request)

    async def send(self, request: Request, *, fresh: bool = False) -> Exchange:
        """Send a request to the next replica in turn; if it cannot be reached, to the following ones.

        The service may close an idle connection just as it is used, so requests that are not repeatable use a new connection
        (`fresh`). Raises NotConnected if no replica can be reached.
        """
        fresh = fresh or not request.repeatable
        failure = NotConnected()
        for replica in self._in_turn():
            request.replica = replica.name
            connection = None if fresh else self._idle(replica)
            try:
                connection = connection or await self._connect(replica)
            except NotConnected as error:
                failure = error
                continue
            return self._begin(request, replica, connection)
        raise failure

    def send_at_once(self, request: Request) -> Exchange | None:
        """Send a request on an idle connection to the next replica in turn; None if it has no idle connection."""
        replica = self._in_turn()[0]
        connection = self._idle(replica)
        return self._begin(request, replica, connection) if connection is not None else None

    def keep(self, replica: Replica, connection: Connection) -> None:
        """Keep a connection for the next request."""
        if not connection.usable or len(replica.idle) >= MAX_IDLE:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        replica.idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(KEEP_ALIVE_SECONDS / 3, self._sweep)

    def close(self) -> None:
        """Close all idle connections."""
        for replica in self.replicas:
            _close_all(replica.idle)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _begin(self, request: Request, replica: Replica, connection: Connection) -> Exchange:
        data = b"%bHost: %b\r\n%b%b" % (request.start, replica.authority, request.rest, request.body)
        request.replica = replica.name
        sent_at = perf_counter()
        response = connection.begin(
            data, complete=request.more is None, bodiless=request.is_head, interim=request.interim
        )
        self._turn += 1
        return Exchange(self, replica, connection, response, sent_at)

    def _in_turn(self) -> list[Replica]:
        replicas = self.replicas
        if len(replicas) == 1:
            return replicas
        now = self._loop.time()
        first = self._turn % len(replicas)
        in_turn = replicas[first:] + replicas[:first]
        return sorted(in_turn, key=lambda replica: replica.down_until > now)

    def _idle(self, replica: Replica) -> Connection | None:
        while replica.idle:
            connection = replica.idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since < KEEP_ALIVE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, replica: Replica) -> Connection:
        failure: NotConnected
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._loop), replica.host, replica.port
                )
        except TimeoutError:
            failure = ConnectTimeout()
        except OSError:
            failure = NotConnected()
        else:
            replica.down_until = 0.0
            return connection
        replica.down_until = self._loop.time() + COOL_DOWN_SECONDS
        if self._measured:
            metrics.CONNECT_FAILURES.labels(self.service).inc()
        raise failure

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = self._loop.time() - KEEP_ALIVE_SECONDS
        for replica in self.replicas:
            expired = [connection for connection in replica.idle if connection.idle_since <= oldest]
            replica.idle = [connection for connection in replica.idle if connection.idle_since > oldest]
            _close_all(expired)
        if any(replica.idle for replica in self.replicas):
            self._sweeper = self._loop.call_later(KEEP_ALIVE_SECONDS / 3, self._sweep)


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().abort()
