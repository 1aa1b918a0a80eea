"""A steady load of events with several under each key, and the account of what consumers made of it."""

import itertools
import threading
import time
import uuid

from tests.acceptance.books import check, user_created, wire
from tests.waiting import eventually


class Load(threading.Thread):
    """Sends events until told to stop. All users of a lane come under one key, so their order is promised."""

    def __init__(self, topics, *, lanes: int = 40, every: float = 0.005) -> None:
        super().__init__(name="load", daemon=True)
        self._topics = topics
        self._every = every
        self._stop_asked = threading.Event()
        prefix = uuid.uuid4().hex[:8]
        self.sent: dict[str, list[str]] = {f"{prefix}-{lane}": [] for lane in range(lanes)}

    def run(self) -> None:
        for number, lane in enumerate(itertools.cycle(self.sent)):
            if self._stop_asked.is_set():
                break
            user_id = f"{lane}-{number}"
            topic, _, value, headers = wire(user_created(user_id))
            self._topics.send_soon(topic, lane.encode(), value, headers)
            self.sent[lane].append(user_id)
            time.sleep(self._every)
        self._topics.flush()

    def end(self) -> list[str]:
        """Send no more. Returns the users of all lanes."""
        self._stop_asked.set()
        self.join(60)
        return [user_id for lane in self.sent.values() for user_id in lane]


def handled(system, lanes: list[str]) -> dict[str, float]:
    """When each event of these keys was handled, by id: the time of its consumer's transaction, in seconds."""
    query = "SELECT event_id, extract(epoch FROM consumed_at)::float8 FROM inbox WHERE key = ANY(%s)"
    return dict(system.rows("orderdb", query, lanes))


def check_lanes(system, topics, load: Load) -> None:
    """Hold the account of a settled system: nothing lost, nothing twice, and each lane in its order."""
    users = load.end()
    check(system, topics, users)
    at = handled(system, list(load.sent))
    assert len(at) == len(users)
    records: dict[bytes, list] = {}
    for record in topics.of("user.created"):
        records.setdefault(record.key, []).append(record)
    for lane, sent in load.sent.items():
        mine = records.get(lane.encode(), [])
        assert [record.payload["userId"] for record in mine] == sent
        times = [at[record.id] for record in mine]
        assert times == sorted(times), f"lane {lane} was overtaken"


def joined(system, *names: str, **changes: str) -> None:
    """Start consumers, and wait until each has partitions of its own to work on."""
    for member in system.start(*names, **changes):
        eventually(lambda member=member: member.metric("events_consumer_assigned_partitions") > 0)
