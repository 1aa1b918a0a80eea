"""Whether a node works, as one word: from what its processes report, or from their silence."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from console.sources.processes import Part, Snapshot

Level = Literal["good", "warn", "bad", "stuck", "unknown"]
"""`stuck` is as bad as `bad`: something that is there, but does not move."""

SERIOUS: tuple[Level, ...] = ("bad", "stuck")
DEPENDENCIES = frozenset({"database", "broker", "outbox", "group"})
"""Parts for which a process waits: the fault is not its own."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of a node: a level, one or two words, and a sentence; `since` in seconds since the epoch, or 0."""

    level: Level
    word: str = ""
    reason: str = ""
    since: float = 0.0


GOOD = State("good")
UNKNOWN = State("unknown", "not known yet")


def of_process(snapshot: Snapshot) -> State:
    """The state of a process, without what its metrics say."""
    since = snapshot.since
    if snapshot.status == "ready":
        return State("good", since=since)
    if snapshot.status == "unknown":
        return UNKNOWN
    if snapshot.status == "down":
        if "in time" in snapshot.reason:
            return State("stuck", "no response", "It is there, but does not respond.", since)
        return State("bad", "down", f"It {snapshot.reason}.", since)
    failing = [part for part in snapshot.parts if part.status != "up"]
    if snapshot.status == "unavailable":
        return _unavailable(failing, snapshot)
    return State("warn", _named("without", failing) or "degraded", snapshot.reason, since)


def _unavailable(failing: list[Part], snapshot: Snapshot) -> State:
    own = {part.name for part in failing} - DEPENDENCIES
    if "loop" in own:
        return State("stuck", "stuck", snapshot.reason, snapshot.since)
    if "handlers" in own:
        return State("stuck", "topic stopped", snapshot.reason, snapshot.since)
    if own or not failing:
        return State("bad", "unavailable", snapshot.reason, snapshot.since)
    return State("warn", _named("waits for", failing), snapshot.reason, snapshot.since)


def _named(verb: str, parts: list[Part]) -> str:
    names = [part.name for part in parts]
    return f"{verb} {names[0]}" if len(names) == 1 else f"{verb} {len(names)} parts" if names else ""


def of_database(snapshots: Iterable[Snapshot]) -> State:
    """The state of a database, from the processes that use it."""
    parts = [part for one in snapshots if one.status != "down" for part in one.parts if part.name == "database"]
    if not parts:
        return State("unknown", "not known", "No process that uses it responds.")
    failing = [part for part in parts if part.status == "down"]
    if failing:
        return State("bad", "down", f"{len(failing)} of {len(parts)} processes say: {failing[0].reason or 'down'}")
    slow = next((part for part in parts if part.status == "degraded"), None)
    return State("warn", slow.reason or "degraded", slow.reason) if slow else GOOD


def worse(one: State, other: State) -> State:
    """The worse of two states, the first one if they are equal."""
    order: tuple[Level, ...] = ("good", "unknown", "warn", "stuck", "bad")
    return other if order.index(other.level) > order.index(one.level) else one
