"""The parts that a process depends on. Those of a web process follow from its settings; a worker declares them."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings

from chassis.health import checks
from chassis.health.check import HealthCheck
from chassis.health.heartbeat import Heartbeat


@dataclass(frozen=True)
class Part:
    """A dependency of a process: without a required one it is not ready, without an optional one it is degraded."""

    name: str
    check: HealthCheck
    required: bool = True
    sets_dependency: bool = False
    """Whether the check sets the metric `dependency_up`; in a worker, the loop sets it."""


_declared: list[Part] | None = None


def declare(parts: Iterable[Part]) -> None:
    """Declare the parts that this process depends on, in place of the default."""
    global _declared  # noqa: PLW0603  a process declares them once
    _declared = list(parts)


def parts() -> list[Part]:
    """The parts that this process depends on."""
    return web() if _declared is None else _declared


def web() -> list[Part]:
    """The parts of a web process: its database is required. Without a broker it works, and events wait in the outbox."""
    alias = settings.SERVICE_DATABASE
    found = []
    if alias:
        found += [
            Part("database", checks.Database(alias), sets_dependency=True),
            Part("outbox", checks.Outbox(alias), required=False),
        ]
    if _has_events():
        found.append(Part("broker", checks.Broker(), required=False, sets_dependency=True))
    return found


def worker(heartbeat: Heartbeat, *, handles: bool = False) -> list[Part]:
    """The parts of a relay, or of a consumer (`handles`). All are required except `events`.

    A consumer is degraded if events were deleted before it processed them.
    """
    alias = settings.SERVICE_DATABASE
    asked = {"database": checks.Database(alias, must_write=True)} if alias else {}
    asked |= {"broker": checks.Broker()}
    return [
        Part("loop", checks.Loop(heartbeat)),
        Part("group", checks.Membership(heartbeat)),
        *([Part("handlers", checks.Handlers(heartbeat))] if handles else []),
        *(Part(name, checks.Awaited(name, check, heartbeat)) for name, check in asked.items()),
        *([Part("events", checks.Warned("events", heartbeat), required=False)] if handles else []),
    ]


def _has_events() -> bool:
    # Only services that publish or consume have this setting; the gateway does not.
    return hasattr(settings, "KAFKA_TOPIC_PARTITIONS")
