"""Asking all parts at once, with a deadline: an answer within two seconds whatever hangs."""

import asyncio
import inspect
import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from django.conf import settings
from django.db import connections
from health_check.exceptions import HealthCheckException, ServiceWarning

from chassis.health import registry
from chassis.health.registry import Part
from chassis.observability import tracing

log = structlog.get_logger(__name__)

DEADLINE = 1.5
"""Seconds for all checks together; with what the HTTP server needs, an answer takes less than two."""

State = Literal["up", "degraded", "down"]


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class Answer:
    """What a probe is told: an HTTP status and a JSON object."""

    status: int
    body: dict[str, Any]


def live() -> Answer:
    """Whether this process works at all: a web process that answers does, a worker whose loop turns."""
    return _answer([part for part in registry.parts() if part.name == "loop"], good="live")


def ready() -> Answer:
    """Whether this process can do its work now: 503 names what is missing, 200 may still say "degraded"."""
    return _answer(registry.parts(), good="ready")


def _answer(parts: list[Part], *, good: str) -> Answer:
    findings = examine(parts)
    missing = any(part.required and findings[part.name].state == "down" for part in parts)
    limping = any(finding.state != "up" for finding in findings.values())
    body = {
        "status": "unavailable" if missing else "degraded" if limping else good,
        "service": settings.SERVICE_NAME,
        "parts": {
            name: {"status": finding.state} | ({"reason": finding.reason} if finding.reason else {})
            for name, finding in findings.items()
        },
    }
    return Answer(503 if missing else 200, body)


def examine(parts: Iterable[Part], within: float = DEADLINE) -> dict[str, Finding]:
    """Run the checks of all parts at once; one that has not ended in `within` seconds is down."""
    running = {part.name: _run(part) for part in parts}
    wait(running.values(), timeout=within)
    findings = {
        name: future.result() if future.done() else Finding("down", "gives no answer in time")
        for name, future in running.items()
    }
    _tell_changes(findings)
    return findings


_runs: dict[str, tuple[Part, "Future[Finding]"]] = {}
_lock = threading.Lock()


def _run(part: Part) -> "Future[Finding]":
    """Start the check of a part, or join the run under way: a check that hangs costs one thread, not one a probe."""
    with _lock:
        known = _runs.get(part.name)
        if known is not None and known[0] == part and not known[1].done():
            return known[1]
        future: Future[Finding] = Future()
        _runs[part.name] = (part, future)
    threading.Thread(target=_work, args=(part, future), name=f"health-{part.name}", daemon=True).start()
    return future


def _work(part: Part, future: "Future[Finding]") -> None:
    try:
        with tracing.suppressed():
            future.set_result(_find(part))
    finally:
        # The thread's own connections: nobody else would close them.
        connections.close_all()


def _find(part: Part) -> Finding:
    try:
        if inspect.iscoroutinefunction(part.check.run):
            asyncio.run(part.check.run())
        else:
            part.check.run()
    except ServiceWarning as warning:
        return Finding("degraded", warning.message)
    except HealthCheckException as error:
        return Finding("down", error.message)
    except Exception:
        # Its text may hold an address or a password: it goes to the log, which masks, not into the answer.
        log.warning("health check broke", part=part.name, exc_info=True)
        return Finding("down", "cannot be checked")
    return Finding("up")


_told: dict[str, State] = {}


def _tell_changes(findings: dict[str, Finding]) -> None:
    """Log a part when its state changes, not at every probe."""
    for name, finding in findings.items():
        if _told.get(name, "up") != finding.state:
            write = log.info if finding.state == "up" else log.warning
            write("health changed", part=name, state=finding.state, reason=finding.reason)
        _told[name] = finding.state
