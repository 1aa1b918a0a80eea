"""A simulated consumer with its own clock: the real triage and backlog, with transactions that only take time or fail."""

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
"""The overhead of each transaction, in seconds."""
EACH = 0.002
"""The duration of a valid event, in seconds."""

Behaviour = Callable[[Record, int, float], "BaseException | float"]
"""How a handler behaves for a record, an attempt and a time: the seconds that it takes, or the exception that it raises."""


@dataclass
class Simulation:
    """A simulation of one or more topics. `arrivals` are (time, record), by time."""

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
        """Add records that arrive now."""
        arrivals = [(self.now - self.start, record) for record in records]
        self.arrivals += arrivals
        self._upcoming.extendleft(reversed(arrivals))

    # --- the unit of work ---

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
            outcome = self.behaviour(record, self.tries[record], self.now)
            if isinstance(outcome, BaseException):
                raise HandlerFailed(outcome)
            self.now += outcome
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

    # --- the loop of the consumer ---

    def run(self, until: float) -> None:
        """Run until everything is resolved, or until this time in seconds."""
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

    # --- results ---

    def longest_gap(self, others: Callable[[Record], bool]) -> float:
        """The longest time in which none of these records was processed although one of them was pending."""
        gaps, last = 0.0, 0.0
        ends = sorted(at - self.start for record, at in self.done.items() if others(record))
        came = {record: at for at, record in self.arrivals}
        pending = sorted((came[record], at - self.start) for record, at in self.done.items() if others(record))
        for end in ends:
            # There was no gap before the first pending record arrived.
            since = min((come for come, done in pending if done >= end), default=end)
            gaps = max(gaps, end - max(last, since))
            last = end
        return gaps

    def check_order(self) -> None:
        """Check that the events of each key were resolved once and in order."""
        for queue in {record.key_queue for record in self.order}:
            offsets = [record.offset for record in self.order if record.key_queue == queue]
            assert offsets == sorted(set(offsets)), f"{queue} was overtaken"


@contextmanager
def clock(simulation: Simulation) -> Iterator[None]:
    """Use the clock of the simulation within the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: simulation.now)
        patch.setattr(triage_module, "log", Silent())
        patch.setattr(dependency_module, "log", Silent())
        yield


class Silent:
    """A logger that discards everything."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **fields: None
