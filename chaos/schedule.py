"""The schedule of faults, which depends only on the seed and the duration."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.system import REPLICAS
from embedded.system import PROCESSES

PROCESS_FAULTS = ("kill -9", "SIGTERM", "freeze")
ENGINE_FAULTS = ("kill -9", "restart", "freeze")
LINK_FAULTS = ("cut", "hang", "slow", "reset")

ENGINES = ("users-db", "orders-db", "kafka")
LINKS = ("users>db", "orders>db", "users>kafka", "orders>kafka", "payments>kafka", "gateway>users", "gateway>orders")
"""For links to replicated services, the seed chooses the replica."""

PROCESS_EVERY = 2.0
"""Seconds between faults of processes; restarting a process takes one second of CPU time."""

SHORT, LONG = (0.5, 3.0), (7.0, 11.0)
"""Durations of faults in seconds: shorter and longer than the session timeouts of consumers (6 s) and relays (5 s)."""


@dataclass(frozen=True, order=True)
class Fault:
    """A fault of type `kind` in `target`, injected `at` seconds after the start and repaired `seconds` later."""

    at: float
    target: str
    kind: str
    seconds: float

    def __str__(self) -> str:
        duration = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:6.1f} s  {self.kind} {self.target}{duration}"


def make(seed: int, duration: float) -> list[Fault]:
    """All faults of a run, by time. Processes, engines and links fail concurrently; all are repaired at the end."""
    faults = [
        *_processes(random.Random(f"processes {seed}"), duration),  # noqa: S311
        *_in_turn(random.Random(f"engines {seed}"), duration, ENGINES, ENGINE_FAULTS, pause=(4.0, 8.0)),  # noqa: S311
        *_in_turn(random.Random(f"links {seed}"), duration, LINKS, LINK_FAULTS, pause=(2.0, 5.0)),  # noqa: S311
    ]
    return sorted(faults)


def _processes(rng: random.Random, duration: float) -> Iterator[Fault]:
    """Every kind of process has every kind of fault before any is repeated. The seed chooses the replica."""
    busy: dict[str, float] = {}
    deck = _deck(rng, [process.name for process in PROCESSES], PROCESS_FAULTS)
    at = rng.uniform(0.5, PROCESS_EVERY)
    while at < duration:
        name, kind = next(deck)
        free = [one for one in _replicas(name) if busy.get(one, 0.0) <= at]
        target, seconds = rng.choice(free or _replicas(name)), _duration(rng, kind)
        if free and at + seconds < duration:
            busy[target] = at + seconds + 1.0
            yield Fault(at, target, kind, seconds)
        at += PROCESS_EVERY * rng.uniform(0.6, 1.4)


def _in_turn(
    rng: random.Random, duration: float, targets: Sequence[str], kinds: Sequence[str], *, pause: tuple[float, float]
) -> Iterator[Fault]:
    """One fault after the other, with pauses for recovery."""
    deck = _deck(rng, targets, kinds)
    at = rng.uniform(*pause)
    while at < duration:
        target, kind = next(deck)
        if target.startswith("gateway>"):
            target = f"{target}-{rng.randrange(REPLICAS)}"
        seconds = _duration(rng, kind)
        if at + seconds < duration:
            yield Fault(at, target, kind, seconds)
            at += seconds
        at += rng.uniform(*pause)


def _duration(rng: random.Random, kind: str) -> float:
    if kind == "reset":
        return 0.0
    if kind in ("freeze", "hang", "cut"):
        return rng.uniform(*rng.choice([SHORT, LONG]))
    return rng.uniform(*SHORT)


def _replicas(name: str) -> list[str]:
    return [f"{name}-{number}" for number in range(REPLICAS)]


def _deck(rng: random.Random, targets: Sequence[str], kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """All pairs in random order, repeated."""
    pairs = [(target, kind) for target in targets for kind in kinds]
    while True:
        rng.shuffle(pairs)
        yield from pairs
