"""Stop the line: a topic of which key after key fails and none succeeds is stopped, as its handler is broken for everybody."""

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
    """A topic that is stopped, and when something of it is tried next: what has failed before, and what was not tried yet."""

    since: float
    next_failed: float
    next_untried: float
    probes: int = 0

    @property
    def next_probe(self) -> float:
        """When either of them is due."""
        return min(self.next_failed, self.next_untried)


def _key(record: Record) -> Key:
    # Records without a key have nothing in common.
    return (record.partition, record.offset) if record.key is None else record.key


class Stopping:
    """Which topics are stopped. `after` distinct keys in a row that fail stop their topic, and a success resumes it; 0 is never.

    Times are in seconds of the caller's clock.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self._failing: dict[str, set[Key]] = {}
        self._stopped: dict[str, Stopped] = {}

    @property
    def topics(self) -> list[str]:
        """The topics that are stopped."""
        return sorted(self._stopped)

    def is_stopped(self, topic: str) -> bool:
        """Whether nothing of this topic may be tried but probes."""
        return topic in self._stopped

    def failing(self, topic: str, records: Iterable[Record]) -> int:
        """How many keys of a topic have failed since its last success, once these records of it have, too."""
        return len(self._failing.get(topic, set()).union(map(_key, records)))

    def enough(self, number: int) -> bool:
        """Whether so many keys stop a topic."""
        return bool(self._after) and number >= self._after

    def failed(self, record: Record) -> bool:
        """An event has failed by itself. Returns whether its topic has to be stopped for that."""
        keys = self._failing.setdefault(record.topic, set())
        if not self.enough(len(keys)):  # more need not be known
            keys.add(_key(record))
        return not self.is_stopped(record.topic) and self.enough(len(keys))

    def stop(self, topic: str, now: float) -> None:
        """Nothing of this topic may be tried any more but probes."""
        self._stopped[topic] = Stopped(now, now, now)
        metrics.EVENTS_STOPPED.labels(topic).set(1)

    def succeeded(self, topic: str) -> Stopped | None:
        """An event has succeeded. Returns what stopped its topic, which is now over."""
        self._failing.pop(topic, None)
        return self.forget(topic)

    def forget(self, topic: str) -> Stopped | None:
        """Nobody here has anything to do with this topic any more, or it resumes."""
        if (stopped := self._stopped.pop(topic, None)) is not None:
            metrics.EVENTS_STOPPED.labels(topic).set(0)
        return stopped

    def due(self, now: float) -> Iterator[tuple[str, bool]]:
        """The topics of which something may be tried now, and whether it shall be what has failed before."""
        for topic, stopped in self._stopped.items():
            if now >= stopped.next_probe:
                yield topic, now >= stopped.next_failed

    def probed(self, topic: str, seconds: float, now: float, *, untried: bool, more: bool) -> None:
        """A probe has failed after so many seconds, or there was nothing to probe: when the next one is.

        What has failed before will most likely fail again, and is tried at most two seconds apart. Good events may wait
        behind any number of bad ones that were not tried yet: as long as there are `more` of those, they are tried one
        after the other, for a share of the time.
        """
        stopped = self._stopped[topic]
        if not untried:
            stopped.probes += 1
            stopped.next_failed = now + max(RECONNECT.delay(stopped.probes) or 0.0, seconds)
        longest = RECONNECT.cap
        stopped.next_untried = now + max(min(seconds * REST, longest) if more else longest, seconds)

    def next_probe(self) -> float | None:
        """When something of a stopped topic may be tried next, or None."""
        return min((stopped.next_probe for stopped in self._stopped.values()), default=None)
