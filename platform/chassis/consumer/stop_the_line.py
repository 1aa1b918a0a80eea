"""Stop the line: a topic of which key after key fails and none succeeds is stopped, since its handler fails for every event."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chassis.kafka.records import Record
from chassis.observability import metrics
from chassis.runtime.retries import RECONNECT

Key = bytes | tuple[int, int]

REST = 4.0
"""After a probe of what was not tried before, the loop rests from that topic for so many times as long as the probe took."""


@dataclass(slots=True)
class Stopped:
    """A stopped topic, and when its next probes are due: one of a failed record, and one of a record that was not tried yet."""

    since: float
    next_failed: float
    next_untried: float
    probes: int = 0

    @property
    def next_probe(self) -> float:
        """When either of them is due."""
        return min(self.next_failed, self.next_untried)


def _key(record: Record) -> Key:
    # Each record without a key counts as a key of its own.
    return (record.partition, record.offset) if record.key is None else record.key


class Stopping:
    """Which topics are stopped. After `after` distinct keys in a row have failed, a topic is stopped (0: never).

    A success resumes it. Times are in seconds of the caller's clock.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self._failing: dict[str, set[Key]] = {}
        self._stopped: dict[str, Stopped] = {}

    @property
    def topics(self) -> list[str]:
        """The stopped topics."""
        return sorted(self._stopped)

    def is_stopped(self, topic: str) -> bool:
        """Whether only probes of this topic may be tried."""
        return topic in self._stopped

    def failing(self, topic: str, records: Iterable[Record]) -> int:
        """How many keys of a topic have failed since its last success, including those of these records."""
        return len(self._failing.get(topic, set()).union(map(_key, records)))

    def enough(self, number: int) -> bool:
        """Whether this number of failed keys stops a topic."""
        return bool(self._after) and number >= self._after

    def failed(self, record: Record) -> bool:
        """Note that an event failed alone. Returns whether its topic must be stopped."""
        keys = self._failing.setdefault(record.topic, set())
        if not self.enough(len(keys)):  # a bound on memory
            keys.add(_key(record))
        return not self.is_stopped(record.topic) and self.enough(len(keys))

    def stop(self, topic: str, now: float) -> None:
        """Stop a topic: from now on, only probes of it may be tried."""
        self._stopped[topic] = Stopped(now, now, now)
        metrics.EVENTS_STOPPED.labels(topic).set(1)

    def succeeded(self, topic: str) -> Stopped | None:
        """Note that an event succeeded. If its topic was stopped it resumes, and its former state is returned."""
        self._failing.pop(topic, None)
        return self.forget(topic)

    def forget(self, topic: str) -> Stopped | None:
        """Forget a topic that resumes, or of which this consumer no longer owns a partition."""
        if (stopped := self._stopped.pop(topic, None)) is not None:
            metrics.EVENTS_STOPPED.labels(topic).set(0)
        return stopped

    def due(self, now: float) -> Iterator[tuple[str, bool]]:
        """The topics that may be probed now, and whether with a record that has failed before."""
        for topic, stopped in self._stopped.items():
            if now >= stopped.next_probe:
                yield topic, now >= stopped.next_failed

    def probed(self, topic: str, seconds: float, now: float, *, untried: bool, more: bool) -> None:
        """Schedule the next probe after one that failed within `seconds`, or after there was nothing to probe.

        A record that has failed before will probably fail again; it is tried at most every two seconds. Good events may wait
        behind any number of bad ones that were not tried yet: while there are `more` of those, they are tried one after the
        other, for a share of the time.
        """
        stopped = self._stopped[topic]
        if not untried:
            stopped.probes += 1
            stopped.next_failed = now + max(RECONNECT.delay(stopped.probes) or 0.0, seconds)
        longest = RECONNECT.cap
        stopped.next_untried = now + max(min(seconds * REST, longest) if more else longest, seconds)

    def next_probe(self) -> float | None:
        """The time of the next probe of any stopped topic, or None."""
        return min((stopped.next_probe for stopped in self._stopped.values()), default=None)
