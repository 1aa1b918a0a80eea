"""How long processing stopped, from the records on Kafka and the rows of the inbox of orders, not from logs or metrics."""

import time
from collections.abc import Mapping

from embedded.runner import get
from tests.acceptance.harness import Member
from tests.waiting import eventually


def now() -> float:
    """The current time, on the same clock as the timestamps of records and rows."""
    return time.time()


def up_at(member: Member) -> float:
    """Wait until a process responds to its first probe, and return the time."""
    eventually(lambda: get(member.port, "/health/live")[0] != 0, every=0.002, what=f"{member.name} is up")
    return now()


def resumed_after(
    system, topics, topic: str, moment: float, *, behind: Mapping[int, int] | None = None
) -> dict[int, float]:
    """How long after `moment` orders processed the first event, by partition of a topic.

    With `behind`, which maps partitions to offsets, only events of these partitions after the offset count.
    """
    query = "SELECT event_id, extract(epoch FROM consumed_at)::float8 FROM inbox WHERE consumed_at > to_timestamp(%s)"
    at = dict(system.rows("orderdb", query, moment))
    found: dict[int, float] = {}
    for record in topics.of(topic):
        if record.id in at and (behind is None or record.offset > behind.get(record.partition, record.offset)):
            waited = at[record.id] - moment
            found[record.partition] = min(waited, found.get(record.partition, waited))
    return found


def all_resumed_after(system, topics, topic: str, moment: float, *, within: float = 30.0) -> dict[int, float]:
    """The same, after waiting until every partition with events has resumed."""
    partitions = {record.partition for record in topics.of(topic)}
    eventually(
        lambda: set(resumed_after(system, topics, topic, moment)) >= partitions,
        within=within,
        every=0.1,
        what=f"all partitions of {topic} resume",
    )
    return resumed_after(system, topics, topic, moment)


def first_record(topics, topic: str, moment: float) -> float:
    """Wait for the first record on a topic after `moment`, and return how long it took."""
    return eventually(
        lambda: min(
            (record.produced_at - moment for record in topics.of(topic) if record.produced_at > moment), default=None
        ),
        what=f"a record on {topic}",
    )
