"""Running all checks concurrently, with a deadline: a probe responds within two seconds, even if a check hangs."""

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

from chassis.health import registry
from chassis.health.check import HealthCheckException, ServiceWarning
from chassis.health.registry import Part
from chassis.observability import tracing

log = structlog.get_logger(__name__)

DEADLINE = 1.5
"""Seconds for all checks; including the HTTP server's time, a response takes less than two."""

State = Literal["up", "degraded", "down"]


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class Answer:
    """The response to a probe: an HTTP status and a JSON object."""

    status: int
    body: dict[str, Any]


def live() -> Answer:
    """Whether this process is live: a web process that responds, or a worker whose loop is not stuck."""
    return _answer([part for part in registry.parts() if part.name == "loop"], good="live")


def ready() -> Answer:
    """Whether this process can do its work now: 503 names the failed checks, 200 may still report "degraded"."""
    return _answer(registry.parts(), good="ready")


def _answer(parts: list[Part], *, good: str) -> Answer:
    findings = examine(parts)
    unavailable = any(part.required and findings[part.name].state == "down" for part in parts)
    degraded = any(finding.state != "up" for finding in findings.values())
    body = {
        "status": "unavailable" if unavailable else "degraded" if degraded else good,
        "service": settings.SERVICE_NAME,
        "parts": {
            name: {"status": finding.state} | ({"reason": finding.reason} if finding.reason else {})
            for name, finding in findings.items()
        },
    }
    return Answer(503 if unavailable else 200, body)


def examine(parts: Iterable[Part], within: float = DEADLINE) -> dict[str, Finding]:
    """Run the checks of all parts concurrently; one that does not finish within `within` seconds is down."""
    running = {part.name: _run(part) for part in parts}
    wait(running.values(), timeout=within)
    findings = {
        name: future.result() if future.done() else Finding("down", "does not respond in time")
        for name, future in running.items()
    }
    _log_changes(findings)
    return findings


_runs: dict[str, tuple[Part, "Future[Finding]"]] = {}
_lock = threading.Lock()


def _run(part: Part) -> "Future[Finding]":
    """Start the check of a part, or return the run in progress: a check that hangs uses one thread, not one per probe."""
    with _lock:
        known = _runs.get(part.name)
        if known is not None and known[0] == part and not known[1].done():
            return known[1]
        future: Future[Finding] = Future()
        _runs[part.name] = (part, future)
    threading.Thread(target=_run_check, args=(part, future), name=f"health-{part.name}", daemon=True).start()
    return future


def _run_check(part: Part, future: "Future[Finding]") -> None:
    try:
        with tracing.suppressed():
            future.set_result(_check(part))
    finally:
        # Nothing else closes the connections of this thread.
        connections.close_all()


def _check(part: Part) -> Finding:
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
        # Its text may contain an address or a password: it is logged, with masking, but not returned.
        log.warning("health check raised an unexpected error", part=part.name, exc_info=True)
        return Finding("down", "cannot be checked")
    return Finding("up")


_told: dict[str, State] = {}


def _log_changes(findings: dict[str, Finding]) -> None:
    """Log changes of a part's state, but not every probe."""
    for name, finding in findings.items():
        if _told.get(name, "up") != finding.state:
            write = log.info if finding.state == "up" else log.warning
            write("health changed", part=name, state=finding.state, reason=finding.reason)
        _told[name] = finding.state
