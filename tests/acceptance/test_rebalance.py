"""Consumers join and leave while events come in: everything happens once, and in the order of each key."""

import itertools
import threading
import time
import uuid

import pytest

from tests.acceptance.books import check, settle, user_created, wire
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

LANES = 40
MOST = 20_000


class Load(threading.Thread):
    """Sends events until told to stop. All users of a lane come under one key, so their order is promised."""

    def __init__(self, topics) -> None:
        super().__init__(name="load", daemon=True)
        self._topics = topics
        self._stop_asked = threading.Event()
        self._prefix = uuid.uuid4().hex[:8]
        self.sent: dict[str, list[str]] = {f"{self._prefix}-{lane}": [] for lane in range(LANES)}

    def run(self) -> None:
        for number, lane in zip(range(MOST), itertools.cycle(self.sent)):
            if self._stop_asked.is_set():
                break
            user_id = f"{lane}-{number}"
            topic, _, value, headers = wire(user_created(user_id))
            self._topics.send_soon(topic, lane.encode(), value, headers)
            self.sent[lane].append(user_id)
            time.sleep(0.005)
        self._topics.flush()

    def end(self) -> list[str]:
        """Send no more. Returns the users of all lanes."""
        self._stop_asked.set()
        self.join(30)
        return [user_id for lane in self.sent.values() for user_id in lane]


@pytest.fixture
def load(topics):
    load = Load(topics)
    load.start()
    yield load
    load.end()


def joined(system, *names: str) -> None:
    """Start consumers, and wait until each has partitions of its own to work on."""
    for member in system.start(*names, CONSUMER_BATCH_SIZE="50"):
        eventually(lambda member=member: member.metric("events_consumer_assigned_partitions") > 0)


def left(system, name: str) -> int:
    """Ask a consumer to leave. Returns its exit status."""
    system[name].terminate()
    return system[name].ended()


def test_consumers_join_and_leave_under_load(system, topics, load):
    joined(system, "orders-consume-1", "payments-consume-1")
    joined(system, "orders-consume-2")
    statuses = [left(system, "orders-consume"), left(system, "payments-consume")]
    joined(system, "orders-consume", "payments-consume")
    statuses += [left(system, "orders-consume-1"), left(system, "orders-consume-2"), left(system, "payments-consume-1")]
    users = load.end()
    settle(system, topics)

    assert statuses == [0] * 5
    assert len(users) > 1_000
    check(system, topics, users)
    claimed = system.rows("orderdb", "SELECT event_id, consumed_at FROM inbox WHERE key = ANY(%s)", list(load.sent))
    assert len(claimed) == len(users)
    at = dict(claimed)
    for lane in load.sent:
        mine = [record for record in topics.of("user.created") if record.key == lane.encode()]
        assert [record.payload["userId"] for record in mine] == load.sent[lane]
        times = [at[record.id] for record in mine]
        assert times == sorted(times), f"lane {lane} was overtaken"
