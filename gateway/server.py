"""The process of `manage.py serve`: one event loop that listens until it is stopped, and then drains.

The connections are implemented in `gateway/edge/`.
"""

import asyncio
import gc
import signal
import sys
import threading

import structlog
import uvloop
from django.conf import settings

from chassis.http.forwarded import Proxies
from chassis.observability import catalogue
from gateway import drain, metrics
from gateway.application import Gateway
from gateway.edge.connections import Connections
from gateway.edge.listening import Edge
from gateway.edge.room import Room
from gateway.lag import Lag
from gateway.origins import Origins
from gateway.parts import Clock
from gateway.watch import Watch

SHUTDOWN_SECONDS = 12
"""How long requests in progress may take after the listeners are closed."""

log = structlog.get_logger(__name__)


class Server:
    """Serves until it is stopped. A second signal skips the drain."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._stopping = asyncio.Event()
        self._skip_drain = asyncio.Event()

    async def run(self) -> None:
        """Serve. Raises SystemExit if it cannot listen."""
        catalogue.export("gateway")
        self._handle_signals()
        edge, application = self._edge()
        await self._listen(edge)
        self._measure()
        _tune_garbage_collection()
        log.info(f"serving at {self._host} port {self._port}")
        await self._stopping.wait()
        drain.draining.set()
        await _wait_at_most(self._skip_drain, settings.GATEWAY_DRAIN_SECONDS)
        log.info("shutting down")
        edge.stop_listening()
        edge.shut_down()
        await _wait_closed(edge.connections)
        edge.abort()
        # One iteration of the loop, in which the tasks of aborted connections end.
        await asyncio.sleep(0)
        application.close()
        log.info("stopped")

    def _edge(self) -> tuple[Edge, Gateway]:
        from gateway.asgi import application as pages

        watch = Watch(asyncio.get_running_loop())
        application = Gateway(pages, watch)
        edge = Edge(
            application,
            connections=Connections(
                limit=settings.GATEWAY_MAX_CONNECTIONS,
                max_per_address=settings.GATEWAY_MAX_CONNECTIONS_PER_ADDRESS,
                exempt=Proxies(settings.TRUSTED_PROXIES).trusts,
            ),
            room=Room(max_memory=settings.GATEWAY_BODY_MEMORY_BYTES, max_files=settings.GATEWAY_BODY_FILE_BYTES),
            watch=watch,
            origins=Origins(settings.CORS_ALLOWED_ORIGINS),
            timeout=settings.GATEWAY_TIMEOUT_SECONDS,
        )
        return edge, application

    async def _listen(self, edge: Edge) -> None:
        ports = [(self._port, False), (settings.GATEWAY_INTERNAL_PORT, True)]
        for port, internal in ports if settings.GATEWAY_INTERNAL_PORT else ports[:1]:
            try:
                await edge.listen(self._host, port, internal=internal)
            except OSError as error:
                log.error("cannot listen", host=self._host, port=port, reason=(error.strerror or str(error)).lower())
                sys.exit(1)

    def _measure(self) -> None:
        """Start the metrics, and the clocks of those that no request sets."""
        metrics.start()
        Lag(asyncio.get_running_loop()).start()
        if settings.GATEWAY_CHECK_EVERY_SECONDS:
            Clock(every=settings.GATEWAY_CHECK_EVERY_SECONDS).start()

    def _handle_signals(self) -> None:
        # Under runserver's reloader this is not the main thread, and the reloader handles signals.
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, self._stop)
            loop.add_signal_handler(signal.SIGINT, self._stop_now)

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._skip_drain.set()
        self._stopping.set()

    def _stop_now(self) -> None:
        self._skip_drain.set()
        self._stopping.set()


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then complete the requests in progress and exit with 0.

    After SIGTERM the gateway is not ready, but keeps serving for GATEWAY_DRAIN_SECONDS (`drain.py`).
    """

    async def run() -> None:
        await Server(host, port).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def _wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most this long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _wait_closed(connections: Connections) -> None:
    """Wait until all connections are closed, at most SHUTDOWN_SECONDS."""
    try:
        async with asyncio.timeout(SHUTDOWN_SECONDS):
            while len(connections):
                await asyncio.sleep(0.02)
    except TimeoutError:
        log.warning("aborting requests in progress", connections=len(connections), after_seconds=SHUTDOWN_SECONDS)


def _tune_garbage_collection() -> None:
    """Exclude the loaded modules from garbage collection, which would otherwise take 8 % of each request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
