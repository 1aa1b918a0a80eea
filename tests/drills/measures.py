"""How long something stood still, from the records on Kafka and the rows of orders' inbox: never from logs or metrics."""

import time
from collections.abc import Mapping

from embedded.runner import get
from tests.acceptance.harness import Member
from tests.waiting import eventually


def now() -> float:
    """The time that Kafka's records and the databases' rows carry too: all is on one machine."""
    return time.time()


def up_at(member: Member) -> float:
    """When a process has been started and loaded, and its work begins: it answers the first probe. Waits for that."""
    eventually(lambda: get(member.port, "/health/live")[0] != 0, every=0.002, what=f"{member.name} is up")
    return now()


def gone_on(system, topics, topic: str, moment: float, *, behind: Mapping[int, int] | None = None) -> dict[int, float]:
    """For each partition of a topic, how long after `moment` its first event was handled by orders.

    With `behind`, an offset for each of some partitions, only events of these that stand behind it are looked at.
    """
    query = "SELECT event_id, extract(epoch FROM consumed_at)::float8 FROM inbox WHERE consumed_at > to_timestamp(%s)"
    at = dict(system.rows("orderdb", query, moment))
    found: dict[int, float] = {}
    for record in topics.of(topic):
        if record.id in at and (behind is None or record.offset > behind.get(record.partition, record.offset)):
            waited = at[record.id] - moment
            found[record.partition] = min(waited, found.get(record.partition, waited))
    return found


def all_gone_on(system, topics, topic: str, moment: float, *, within: float = 30.0) -> dict[int, float]:
    """The same, once every partition that has ever had an event goes on."""
    partitions = {record.partition for record in topics.of(topic)}
    eventually(
        lambda: set(gone_on(system, topics, topic, moment)) >= partitions,
        within=within,
        every=0.1,
        what=f"all partitions of {topic} go on",
    )
    return gone_on(system, topics, topic, moment)


def first_record(topics, topic: str, moment: float) -> float:
    """How long after `moment` the first record was produced to a topic. Waits for that."""
    return eventually(
        lambda: min(
            (record.produced_at - moment for record in topics.of(topic) if record.produced_at > moment), default=None
        ),
        what=f"a record on {topic}",
    )
