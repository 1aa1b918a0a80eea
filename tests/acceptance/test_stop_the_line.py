"""A handler that fails for all events: the topic is stopped, nothing is dead-lettered, and finally all events are processed."""

import itertools
import uuid

import pytest

from tests.acceptance.faults import faults
from tests.acceptance.keyed_load import handled
from tests.acceptance.ledger import check, settle, user_created, wire
from tests.acceptance.outages import unready
from tests.acceptance.topics import DEAD_LETTER_TOPICS
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

KEYS = 400


class Keyed:
    """Events about users, several of them under each of some keys."""

    def __init__(self, topics, count: int) -> None:
        self._topics = topics
        prefix = uuid.uuid4().hex[:8]
        self.keys = [f"{prefix}-{number}" for number in range(KEYS)]
        self.users = [f"{key}-{n}" for n, key in zip(range(count), itertools.cycle(self.keys), strict=False)]

    def send(self) -> None:
        for user_id in self.users:
            topic, _, value, headers = wire(user_created(user_id))
            self._topics.send_later(topic, user_id.rpartition("-")[0].encode(), value, headers)
        self._topics.flush()

    def check(self, system, topics) -> None:
        """All were handled, once and in the order of their keys, and none is a dead letter."""
        check(system, topics, self.users)
        keys = {key.encode() for key in self.keys}
        assert [letter for name in DEAD_LETTER_TOPICS for letter in topics.of(name) if letter.key in keys] == []
        at = handled(system, self.keys)
        assert len(at) == len(self.users)
        times: dict[bytes, list[float]] = {}
        for record in topics.of("user.created"):
            if record.key in keys:
                times.setdefault(record.key, []).append(at[record.id])
        assert all(those == sorted(those) for those in times.values())


@pytest.mark.parametrize(
    ("name", "topic", "count"),
    [("orders-consume", "user.created", 10_000), ("payments-consume", "order.created", 2_000)],
)
def test_a_bad_deployment_and_then_a_good_one(system, topics, name, topic, count):
    keyed = Keyed(topics, count)
    broken = system.spawn(name, fault="broken-handler")
    keyed.send()
    eventually(lambda: unready(system, name, "handlers"), within=60, what="it says that the topic is stopped")
    assert topic in broken.readiness()[1]["parts"]["handlers"]["reason"]
    # From seven eighths of CONSUMER_HELD_EVENTS on, partitions are paused.
    eventually(lambda: broken.metric("events_held") > count * 0.85, within=180, what="it holds what there is")
    assert broken.metric("events_stopped") == 1
    assert broken.metric("events_dead_lettered_total") == 0
    [said] = [line for line in broken.logged(topic=topic) if line["event"].startswith("topic stopped")]
    assert "TypeError" in str(said)

    system.start(name)
    settle(system, topics, within=300)
    keyed.check(system, topics)
    assert system[name].metric("events_stopped") == 0


def test_resumes_by_itself_when_the_cause_is_resolved(system, topics):
    """The handler is good, and something that it needs refuses everything: no restart is needed."""
    keyed = Keyed(topics, 2_000)
    consumer = system["orders-consume"]
    with faults(system) as fault:
        fault.refuse(f"{keyed.keys[0].partition('-')[0]}-%")
        keyed.send()
        eventually(lambda: unready(system, "orders-consume", "handlers"))
        assert consumer.metric("events_stopped") == 1
        fault.accept_all()
        eventually(consumer.ready, within=10, what="it has noticed")
    settle(system, topics, within=120)
    keyed.check(system, topics)
    assert [line["topic"] for line in consumer.logged("topic resumes: an event succeeded")] == ["user.created"]
