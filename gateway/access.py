"""The access log: one line per proxied request, in the format of all log lines (`chassis.observability.logging`).

A line that passes through structlog's processors takes half as long as the rest of a proxied request. Therefore JSON lines,
the format of production, are formatted here, and written every 50 ms with a single write.
"""

import asyncio
import contextlib
import logging
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import structlog

from chassis.observability.middleware import OTHER
from gateway.trace import Trace

FLUSH_SECONDS = 0.05

log = structlog.get_logger("access")


class Logged(Protocol):
    """What a line says: of a call, or of something that was rejected before it was one."""

    logged_method: str
    """A known method, or `_OTHER`."""
    status: int
    aborted: bool
    reason: str
    """Why the gateway itself responded, or aborted the response; empty if the service responded."""
    replica: str
    """The replica that was used last; empty if none was."""
    request_id: str
    trace: Trace | None


@dataclass(slots=True)
class Rejected:
    """A connection, or data that is no request."""

    status: int
    reason: str
    request_id: str
    trace: Trace | None
    logged_method: str = OTHER
    aborted: bool = False
    replica: str = ""


class AccessLog:
    """Logs route, method, status and duration; never the path or the query, which may contain personal data.

    Responses that the gateway itself made also have a reason, and failures the replica.
    """

    def __init__(self, *, service: str, level: str, as_json: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._service = service
        self._lowest = logging.getLevelNamesMapping()[level]
        self._as_json = as_json
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, route: str, call: Logged, seconds: float) -> None:
        """Log one request, as a warning if the gateway or the service failed."""
        warn = call.status >= 500 or call.aborted
        if self._lowest > (logging.WARNING if warn else logging.INFO):
            return
        if not self._as_json:
            (log.warning if warn else log.info)("request", **_fields(route, call, seconds))
            return
        self._lines.append(self._line(route, call, seconds, "warning" if warn else "info"))
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        # The reader of the log is gone, which is no reason to fail.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("".join(lines))

    def _line(self, route: str, call: Logged, seconds: float, level: str) -> str:
        # Nothing needs escaping: methods and request ids that get this far consist of letters, digits and `._:-`.
        trace = call.trace
        failure = ""
        if call.reason or call.status >= 500 or call.aborted:
            failure = f'"reason":"{call.reason}","replica":"{call.replica}",'
        return (
            f'{{"event":"request","method":"{call.logged_method}","route":"{route}","status":{call.status},'
            f'"duration_ms":{seconds * 1000:.2f},"aborted":{"true" if call.aborted else "false"},{failure}'
            f'"logger":"access","level":"{level}","timestamp":"{_timestamp(time.time())}","service":"{self._service}",'
            f'"request_id":"{call.request_id}","trace_id":"{trace.trace_id if trace else ""}",'
            f'"span_id":"{trace.span_id if trace else ""}"}}\n'
        )


def _fields(route: str, call: Logged, seconds: float) -> dict[str, Any]:
    failed = call.reason or call.status >= 500 or call.aborted
    failure = {"reason": str(call.reason), "replica": call.replica} if failed else {}
    return {
        **failure,
        "method": call.logged_method,
        "route": route,
        "status": call.status,
        "duration_ms": round(seconds * 1000, 2),
        "aborted": call.aborted,
        "request_id": call.request_id,
        "trace_id": call.trace.trace_id if call.trace else "",
        "span_id": call.trace.span_id if call.trace else "",
    }


def _timestamp(now: float) -> str:
    second = int(now)
    return f"{_second(second)}.{int((now - second) * 1_000_000):06d}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
