"""A consumer's membership of its group: joining, leaving it while the database is unavailable, and leaving it for good."""

import time
from collections.abc import Callable, Collection

import structlog
from confluent_kafka import Consumer, KafkaException

from chassis.kafka.records import Partition
from chassis.runtime.dependency import Dependency
from chassis.runtime.shutdown import Heartbeat
from chassis.runtime.watchdog import Watchdog

log = structlog.get_logger(__name__)

AWAY_SECONDS = 10.0
"""So long a consumer keeps its partitions while its database does not answer."""

LEAVE_SECONDS = 12.0
"""How long leaving the group may take, with a broker that does not answer too. A call that had begun when the broker went can
hang in the Kafka client for ever; then only a new process can go on."""

REVOKED_SECONDS = 3.0
"""How long to serve the group after leaving, so that what is done is committed."""


class Membership:
    """Whether this consumer is in its group. `join` subscribes; `assigned` is what the group has given to it by now."""

    def __init__(
        self, client: Consumer, heartbeat: Heartbeat, join: Callable[[], None], assigned: Collection[Partition]
    ) -> None:
        self._client = client
        self._heartbeat = heartbeat
        self._assigned = assigned
        self._left = False
        self.join = join

    def leave_or_return(self, now: float, database: Dependency, may_work: Callable[[float], bool]) -> None:
        """Leave the group when the database has been away for too long: a replica that reaches it can take the work over.

        What is not committed is delivered there. Asking the database goes on, and this one returns when it answers. If it is
        away for all, all leave, and none returns before.
        """
        if self._left and may_work(now):
            self._left = False
            self._heartbeat.say("group", "")
            log.info("returning to the group: the database is back")
            self.join()
        elif not self._left and database.away:
            if database.down_for(now) < AWAY_SECONDS:
                return
            self._left = True
            self._heartbeat.joined.clear()
            self._heartbeat.say("group", "has left it, until the database answers")
            log.warning("leaving the group until the database answers: others may reach it", seconds=AWAY_SECONDS)
            self._unsubscribe()

    def end(self) -> None:
        """Leave the group for good.

        `unsubscribe` first: a static member that only closes stays in the group until its session ends, and its
        partitions would stand still that long.
        """
        with Watchdog("leaving the group", LEAVE_SECONDS):
            self._unsubscribe()
            self._client.close()
        log.info("left the group")

    def _unsubscribe(self) -> None:
        """Give all partitions back, unless the broker does not answer either."""
        try:
            self._client.unsubscribe()
        except KafkaException as error:
            # A fenced member cannot leave: it is none any more. What ended the loop must not be hidden by that.
            log.debug("could not unsubscribe", reason=str(error))
        deadline = time.monotonic() + REVOKED_SECONDS
        while self._assigned and time.monotonic() < deadline:
            self._client.poll(0.1)
