"""What is broken when: a list that is a function of the seed, the duration and nothing else."""

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
"""Those to a service's replicas stand for one of them, which the seed chooses."""

PROCESS_EVERY = 2.0
"""Seconds from one fault of a process to the next; starting one again takes a second of a processor."""

SHORT, LONG = (0.5, 3.0), (7.0, 11.0)
"""How long things stand still, in seconds: less and more than the session timeout of a consumer (6 s) and a relay (5 s)."""


@dataclass(frozen=True, order=True)
class Fault:
    """At `at` seconds from the start, `kind` happens to `target`; `seconds` later it is undone."""

    at: float
    target: str
    kind: str
    seconds: float

    def __str__(self) -> str:
        how_long = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:6.1f} s  {self.kind} {self.target}{how_long}"


def make(seed: int, duration: float) -> list[Fault]:
    """All faults of a run, by time: processes, engines and links are broken side by side. All are undone at the end."""
    faults = [
        *_processes(random.Random(f"processes {seed}"), duration),  # noqa: S311
        *_in_turn(random.Random(f"engines {seed}"), duration, ENGINES, ENGINE_FAULTS, pause=(4.0, 8.0)),  # noqa: S311
        *_in_turn(random.Random(f"links {seed}"), duration, LINKS, LINK_FAULTS, pause=(2.0, 5.0)),  # noqa: S311
    ]
    return sorted(faults)


def _processes(rng: random.Random, duration: float) -> Iterator[Fault]:
    """Every kind of process meets every kind of fault before any meets one again; which replica, the seed says."""
    busy: dict[str, float] = {}
    deck = _deck(rng, [process.name for process in PROCESSES], PROCESS_FAULTS)
    at = rng.uniform(0.5, PROCESS_EVERY)
    while at < duration:
        name, kind = next(deck)
        free = [one for one in _replicas(name) if busy.get(one, 0.0) <= at]
        target, seconds = rng.choice(free or _replicas(name)), _how_long(rng, kind)
        if free and at + seconds < duration:
            busy[target] = at + seconds + 1.0
            yield Fault(at, target, kind, seconds)
        at += PROCESS_EVERY * rng.uniform(0.6, 1.4)


def _in_turn(
    rng: random.Random, duration: float, targets: Sequence[str], kinds: Sequence[str], *, pause: tuple[float, float]
) -> Iterator[Fault]:
    """One after the other, with a pause in which things can recover."""
    deck = _deck(rng, targets, kinds)
    at = rng.uniform(*pause)
    while at < duration:
        target, kind = next(deck)
        if target.startswith("gateway>"):
            target = f"{target}-{rng.randrange(REPLICAS)}"
        seconds = _how_long(rng, kind)
        if at + seconds < duration:
            yield Fault(at, target, kind, seconds)
            at += seconds
        at += rng.uniform(*pause)


def _how_long(rng: random.Random, kind: str) -> float:
    if kind == "reset":
        return 0.0
    if kind in ("freeze", "hang", "cut"):
        return rng.uniform(*rng.choice([SHORT, LONG]))
    return rng.uniform(*SHORT)


def _replicas(name: str) -> list[str]:
    return [f"{name}-{number}" for number in range(REPLICAS)]


def _deck(rng: random.Random, targets: Sequence[str], kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """All pairs in random order, again and again."""
    pairs = [(target, kind) for target in targets for kind in kinds]
    while True:
        rng.shuffle(pairs)
        yield from pairs
