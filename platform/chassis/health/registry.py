"""Which parts a process depends on. A web process need not say: it follows from its settings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.conf import settings
from health_check.base import HealthCheck

from chassis.health import checks
from chassis.health.heartbeat import Heartbeat


@dataclass(frozen=True)
class Part:
    """One thing that a process depends on: without a required one it is not ready, without another it is degraded."""

    name: str
    check: HealthCheck
    required: bool = True


_declared: list[Part] | None = None


def declare(parts: Iterable[Part]) -> None:
    """Say what this process depends on, in place of what would be assumed."""
    global _declared  # noqa: PLW0603  one process, one answer
    _declared = list(parts)


def parts() -> list[Part]:
    """What this process depends on."""
    return web() if _declared is None else _declared


def web() -> list[Part]:
    """What a web process depends on: its database. Without a broker it still serves; its events wait in the outbox."""
    alias = settings.SERVICE_DATABASE
    found = []
    if alias:
        found += [Part("database", checks.Database(alias)), Part("outbox", checks.Outbox(alias), required=False)]
    if _has_events():
        found.append(Part("broker", checks.Broker(), required=False))
    return found


def worker(
    heartbeat: Heartbeat, client: Callable[[], checks.KafkaClient] | None = None, *, handles: bool = False
) -> list[Part]:
    """What a relay or a consumer (which `handles` events) depends on: all of it.

    A consumer is degraded where events were lost that it should have handled.
    """
    alias = settings.SERVICE_DATABASE
    asked = {"database": checks.Database(alias, must_write=True)} if alias else {}
    asked |= {"broker": checks.Broker(client) if client else checks.Broker()}
    return [
        Part("loop", checks.Loop(heartbeat)),
        Part("group", checks.Membership(heartbeat)),
        *([Part("handlers", checks.Handlers(heartbeat))] if handles else []),
        *(Part(name, checks.Awaited(name, check, heartbeat)) for name, check in asked.items()),
        *([Part("events", checks.Warned("events", heartbeat), required=False)] if handles else []),
    ]


def _has_events() -> bool:
    # Only services that consume or publish read these settings; the gateway does not.
    return hasattr(settings, "KAFKA_TOPIC_PARTITIONS")
