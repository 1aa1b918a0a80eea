"""What no process's metrics say: the ends of the topics, the lag of a consumer that is away, and outboxes without a relay.

Read in the background, and only while the map is shown.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from chassis.kafka import clients, names
from chassis.kafka.clients import EARLIEST, LATEST
from chassis.kafka.records import Partition
from chassis.monitor import cluster
from chassis.monitor.committed import CommittedOffsets
from chassis.runtime.failures import DependencyDown
from console.failures import Away, NotFound, Source
from console.sources.staff import Refused, Staff

EVERY_SECONDS = 1.0
SLOW_SECONDS = 5.0
"""How often what changes slowly is read: the list of topics, and the begins of partitions."""
WATCH_LASTS_SECONDS = 5.0

Groups = Mapping[str, tuple[str, ...]]
"""The topics that each consumer group reads."""


class Periodic:
    """Work that a thread repeats while it is watched. It begins with the first call of `watch`."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._work = work
        self._watched_until = 0.0
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._begun = False

    def watch(self) -> None:
        """Repeat the work every second for the next seconds."""
        self._watched_until = time.monotonic() + WATCH_LASTS_SECONDS
        with self._lock:
            if not self._begun:
                self._begun = True
                self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            begun = time.monotonic()
            if begun >= self._watched_until:
                self._wake.clear()
                continue
            self._work()
            time.sleep(max(0.05, begun + EVERY_SECONDS - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Offsets:
    """What the brokers said at a time, in seconds since the epoch. `problem` is why they say nothing now."""

    at: float = 0.0
    begins: Mapping[Partition, int] = field(default_factory=dict)
    ends: Mapping[Partition, int] = field(default_factory=dict)
    lags: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Records after the committed offset, by group and topic. Of several Kafka transactions the markers count as records."""
    problem: str = ""

    def span(self, topic: str) -> int:
        """The number of offsets between begin and end of a topic."""
        return sum(end - self.begins.get(place, end) for place, end in self.ends.items() if place[0] == topic)

    def end(self, topic: str) -> int:
        """The sum of the ends of a topic's partitions."""
        return sum(end for place, end in self.ends.items() if place[0] == topic)


class Brokers:
    """Asks the brokers for offsets. It joins no group and reads no records."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._client: AdminClient | None = None
        self._committed = CommittedOffsets()
        self._topics: dict[str, int] = {}
        self._begins: dict[Partition, int] = {}
        self._read_slowly_at = float("-inf")
        self.groups: Groups = {}
        """The groups whose lag is needed. Their consumers say it too, but not while they are down, and every five seconds only."""
        self.transactional: frozenset[str] = frozenset()
        """The topics that are written in Kafka transactions: their last offset is that of a marker, which is never consumed."""
        self.offsets = Offsets()
        self.before = Offsets()
        """The offsets that were read before these."""

    def read(self) -> None:
        """Read once. Without an answer the last offsets stay, with the problem."""
        try:
            found = self._read()
        except (KafkaException, DependencyDown) as error:
            self._client = None
            self._read_slowly_at = float("-inf")
            self._source.failed(error.args[0].str() if isinstance(error, KafkaException) else error)
            last = self.offsets
            self.offsets = Offsets(last.at, last.begins, last.ends, last.lags, "does not respond")
        else:
            self._source.answered()
            self.before, self.offsets = self.offsets, found

    def _read(self) -> Offsets:
        client = self._client = self._client or clients.admin()
        is_slow = time.monotonic() >= self._read_slowly_at + SLOW_SECONDS
        if is_slow:
            _, self._topics = cluster.read_topics(client)
        places = [TopicPartition(topic, number) for topic, count in self._topics.items() for number in range(count)]
        ends = cluster.read_offsets(client, places, LATEST)
        client.poll(0)
        if places and not ends:
            raise DependencyDown("no partition's leader responds")
        if is_slow:
            self._begins = cluster.read_offsets(client, places, EARLIEST)
            self._read_slowly_at = time.monotonic()
        groups = dict(self.groups)
        self._committed.keep_only(groups.keys())
        lags: dict[tuple[str, str], int] = {}
        for group, topics in groups.items():
            with suppress(KafkaException):  # its coordinator is moving
                lags |= self._lags(group, topics, ends)
        return Offsets(time.time(), self._begins, ends, lags)

    def _lags(self, group: str, topics: tuple[str, ...], ends: Mapping[Partition, int]) -> dict[tuple[str, str], int]:
        places = [TopicPartition(topic, number) for topic, number in ends if topic in topics]
        if not places:
            return {}
        committed = self._committed.read(group, places)
        found: dict[tuple[str, str], int] = {}
        for place in places:
            key = (place.topic, place.partition)
            position = max(committed.get(key, 0), self._begins.get(key, 0))
            lag = ends[key] - position - (place.topic in self.transactional)
            found[group, place.topic] = found.get((group, place.topic), 0) + max(0, lag)
        return found


@dataclass(frozen=True, slots=True)
class Outbox:
    """The rows of an outbox that wait: `oldest` is the age of the oldest, in seconds."""

    waiting: int
    parked: int
    oldest: float


class Outboxes:
    """Asks services for the depth of their outbox: of those whose relay, which measures it otherwise, does not respond."""

    def __init__(self, staff: Staff) -> None:
        self._staff = staff
        self.wanted: tuple[str, ...] = ()
        self.found: dict[str, Outbox] = {}

    def read(self) -> None:
        """Read once."""
        self.found = {service: found for service in self.wanted if (found := self._ask(service)) is not None}

    def _ask(self, service: str) -> Outbox | None:
        try:
            counts = self._staff.get(service, "outbox", state="unsent", limit=1)["counts"]
            return Outbox(int(counts["unsent"]), int(counts["parked"]), float(counts["oldest_unsent_seconds"] or 0))
        except (Away, NotFound, Refused, LookupError, TypeError, ValueError):
            return None


class DeadLetters:
    """Asks services how many of their dead letters are not resolved, whenever their dead-letter topics have changed.

    The topics alone do not say it: a redrive is a record of them too.
    """

    def __init__(self, staff: Staff) -> None:
        self._staff = staff
        self._asked: dict[str, int] = {}
        self.wanted: Mapping[str, int] = {}
        """The services that may have dead letters, with the sum of the ends of their dead-letter topics."""
        self.found: dict[str, int] = {}

    def read(self) -> None:
        """Read once."""
        for service, end in dict(self.wanted).items():
            if self._asked.get(service) == end:
                continue
            with suppress(Away, NotFound, Refused, LookupError, TypeError, ValueError):
                answer = self._staff.get(service, "dead-letters", state="unresolved", members=0)
                self.found[service], self._asked[service] = int(answer["total"]), end


def dead_letter_topics(groups: Groups) -> dict[tuple[str, str], str]:
    """The dead-letter topic by group and topic."""
    return {
        (group, topic): names.dead_letter_topic(topic, names.service(group))
        for group, topics in groups.items()
        for topic in topics
    }
