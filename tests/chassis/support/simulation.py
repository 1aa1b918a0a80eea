"""A consumer on a clock of its own: the real judgement, backlog and pace, and a transaction that only takes its time and fails."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import OperationalError

from chassis.consumer import triage as triage_module
from chassis.consumer.backlog import Backlog
from chassis.consumer.triage import Triage
from chassis.consumer.unit_of_work import BatchResult, Terms
from chassis.deadletters.record import FailedRecord
from chassis.events.envelope import Unreadable
from chassis.events.event import Event
from chassis.events.registry import Handler
from chassis.kafka.records import Record
from chassis.runtime import dependency as dependency_module
from chassis.runtime.dependency import Dependency
from chassis.runtime.failures import HandlerFailed, HandlerTimeout

OVERHEAD = 0.002
"""Seconds that any transaction takes."""
EACH = 0.002
"""Seconds that a good event takes."""

Behaviour = Callable[[Record, int, float], "BaseException | float"]
"""What a handler does with a record, at which try of it and when: takes so many seconds, or raises at once."""


@dataclass
class Simulation:
    """One topic or more. `behaviour` decides; `arrivals` are (time, record), by time."""

    behaviour: Behaviour
    arrivals: list[tuple[float, Record]]
    limit: float = 30.0
    reachable: Callable[[float], bool] = lambda now: True
    now: float = 1_000.0
    done: dict[Record, float] = field(default_factory=dict)
    dead: dict[Record, float] = field(default_factory=dict)
    tries: dict[Record, int] = field(default_factory=dict)
    order: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start = self.now
        self._upcoming = deque(sorted(self.arrivals, key=lambda one: one[0]))
        self.backlog = Backlog()
        topics = {record.topic for _, record in self.arrivals}
        handlers: Any = {topic: Handler(Event, lambda received: None) for topic in topics}
        self.dependency = Dependency("database")
        self.triage = Triage(self.backlog, handlers, lambda: self, self.dependency, Dependency("dead-letter topic"))

    def arrive(self, *records: Record) -> None:
        """These arrive now."""
        came = [(self.now - self.start, record) for record in records]
        self.arrivals += came
        self._upcoming.extendleft(reversed(came))

    # --- what a transaction is asked ---

    def process(self, batch: Sequence[Record], terms: Terms) -> BatchResult:
        self.now += OVERHEAD
        if not self.reachable(self.now):
            raise OperationalError("no connection")
        unread = [one for one in batch if one.value is None]
        readable: Any = [(one, None) for one in batch if one.value is not None]
        dead = [FailedRecord(one, Unreadable("no value"), 1) for one in unread]
        terms.check(readable, dead)
        allowed = min(self.limit, terms.limit or self.limit)
        began = self.now
        for record, _ in readable:
            self.tries[record] = self.tries.get(record, 0) + 1
            said = self.behaviour(record, self.tries[record], self.now)
            if isinstance(said, BaseException):
                raise HandlerFailed(said)
            self.now += said
            if self.now - began > allowed:
                self.now = began + allowed
                raise HandlerFailed(HandlerTimeout("too long"))
        for record in unread:
            self.dead[record] = self.now
        return BatchResult(readable, [], dead)

    def probe(self) -> None:
        self.now += OVERHEAD
        if not self.reachable(self.now):
            raise OperationalError("no connection")

    def dead_letter(self, failed: FailedRecord, offsets: object) -> None:
        self.probe()
        self.dead[failed.record] = self.now
        self.order.append(failed.record)

    def reset(self, error: BaseException) -> None:
        pass

    # --- the loop, as the consumer's is ---

    def run(self, until: float) -> None:
        """Turn until all is done with, or so many seconds have passed."""
        while self.now - self.start < until:
            while self._upcoming and self._upcoming[0][0] + self.start <= self.now:
                self.backlog.add(self._upcoming.popleft()[1])
            if not self._upcoming and not len(self.backlog):
                return
            began = self.now
            if self.triage.may_work(self.now) and (batch := self.triage.take(self.now)):
                self._work(batch)
            if self.now == began:
                waits = not self.dependency.may_try(self.now)
                nexts = [self.dependency.next_try if waits else self.triage.next_due()]
                nexts += [at + self.start for at, _ in self._upcoming][:1]
                known = [at for at in nexts if at is not None]
                self.now = max(self.now + 0.001, min([*known, self.now + 1.0]))

    def _work(self, batch: list[Record]) -> None:
        began = self.now
        terms = self.triage.terms(batch)
        try:
            result = self.process(batch, terms)
        except Exception as error:  # as the consumer does
            self.triage.failed(batch, error, self.now - began)
        else:
            for record, _ in result.handled:
                self.done[record] = self.now
                self.order.append(record)
            self.triage.succeeded(batch, result, self.now - began)

    # --- what became of it ---

    def longest_gap(self, others: Callable[[Record], bool]) -> float:
        """The longest time in which none of these got through, while one of them was there."""
        gaps, last = 0.0, 0.0
        ends = sorted(at - self.start for record, at in self.done.items() if others(record))
        came = {record: at for at, record in self.arrivals}
        pending = sorted((came[record], at - self.start) for record, at in self.done.items() if others(record))
        for end in ends:
            # Nobody stood still before the first of those that were there had come.
            since = min((come for come, done in pending if done >= end), default=end)
            gaps = max(gaps, end - max(last, since))
            last = end
        return gaps

    def check_order(self) -> None:
        """Each key's events ended in their order, each once."""
        for queue in {record.key_queue for record in self.order}:
            offsets = [record.offset for record in self.order if record.key_queue == queue]
            assert offsets == sorted(set(offsets)), f"{queue} was overtaken"


@contextmanager
def clock(simulation: Simulation) -> Iterator[None]:
    """The judgement's clock is the simulation's while the body runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: simulation.now)
        patch.setattr(triage_module, "log", Silent())
        patch.setattr(dependency_module, "log", Silent())
        yield


class Silent:
    """A log that nobody reads."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **fields: None
