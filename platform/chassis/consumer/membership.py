"""A consumer's membership of its group: joining, leaving while the database is unavailable, and leaving on shutdown."""

import time
from collections.abc import Callable, Collection

import structlog
from confluent_kafka import Consumer, KafkaException

from chassis.kafka import clients
from chassis.kafka.errors import Stranded
from chassis.kafka.records import Partition
from chassis.runtime.dependency import Dependency
from chassis.runtime.shutdown import Heartbeat
from chassis.runtime.watchdog import Watchdog

log = structlog.get_logger(__name__)

AWAY_SECONDS = 10.0
"""How long a consumer keeps its partitions while its database does not respond."""

LEAVE_SECONDS = 12.0
"""How long leaving the group may take, also if the broker does not respond. A call that was in progress when the broker went
down can hang in the Kafka client forever; then only a new process can continue."""

REVOKED_SECONDS = 3.0
"""How long to serve the group after leaving it, so that the offsets of finished records are committed."""

CHECK_SECONDS = 5.0
"""The interval at which a new client sends the brokers a request, while this consumer waits for partitions."""
STRANDED_CHECKS = 8
"""After so many responses in a row, this consumer's own client is replaced. A rebalance may take as long as the longest batch."""


class Membership:
    """Whether this consumer is in its group. `join` subscribes; `assigned` contains the currently assigned partitions."""

    def __init__(
        self, client: Consumer, heartbeat: Heartbeat, join: Callable[[], None], assigned: Collection[Partition]
    ) -> None:
        self._client = client
        self._heartbeat = heartbeat
        self._assigned = assigned
        self._left = False
        self._join = join
        self._waits = False
        """Whether it waits for the group to assign partitions, which may be none."""
        self._check_at = 0.0
        self._responses = 0

    def join(self) -> None:
        """Join the group."""
        self._wait()
        self._join()

    def joined(self) -> None:
        """Note that the group has assigned partitions."""
        self._waits = False
        self._heartbeat.joined.set()

    def lost(self) -> None:
        """Note that this consumer is no longer a member of the group; normally, its client rejoins automatically."""
        self._heartbeat.joined.clear()
        self._wait()

    def _wait(self) -> None:
        self._waits, self._check_at, self._responses = True, time.monotonic() + CHECK_SECONDS, 0

    def raise_if_stranded(self, now: float) -> None:
        """Raise Stranded if the client does not join although the brokers respond: see chassis/kafka/renewal.py."""
        if not self._waits or self._left or now < self._check_at:
            return
        self._check_at = now + CHECK_SECONDS
        self._responses = self._responses + 1 if clients.new_client_gets_response() else 0
        if self._responses >= STRANDED_CHECKS:
            raise Stranded("the client does not join its group, although the brokers respond to a new one")

    def leave_or_rejoin(self, now: float, database: Dependency, may_work: Callable[[float], bool]) -> None:
        """Leave the group if the database has been down for too long: a replica that reaches it can take over the partitions.

        Uncommitted records are delivered to that replica. Probing the database continues, and this consumer rejoins when it
        responds. If it is down for all replicas, all leave, and none rejoins before.
        """
        if self._left and may_work(now):
            self._left = False
            self._heartbeat.report("group", "")
            log.info("rejoining the group: the database is back")
            self.join()
        elif not self._left and database.confirmed_down:
            if database.down_for(now) < AWAY_SECONDS:
                return
            self._left = True
            self._heartbeat.joined.clear()
            self._heartbeat.report("group", "left until the database responds")
            log.warning(
                "leaving the group until the database responds: another replica may reach it", seconds=AWAY_SECONDS
            )
            self._unsubscribe()

    def end(self) -> None:
        """Leave the group and close the client.

        `unsubscribe` comes first: a static member that only closes remains in the group until its session times out, and its
        partitions would not be consumed until then.
        """
        with Watchdog("leaving the group", LEAVE_SECONDS):
            self._unsubscribe()
            self._client.close()
        log.info("left the group")

    def _unsubscribe(self) -> None:
        """Give up all partitions, unless the broker does not respond either."""
        try:
            self._client.unsubscribe()
        except KafkaException as error:
            # A fenced member cannot leave, since it is no longer a member. This error must not hide what ended the loop.
            log.debug("could not unsubscribe", reason=str(error))
        deadline = time.monotonic() + REVOKED_SECONDS
        while self._assigned and time.monotonic() < deadline:
            self._client.poll(0.1)
