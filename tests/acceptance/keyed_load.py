"""A constant load with several events per key, and the check of its effects."""

import itertools
import threading
import time
import uuid

from tests.acceptance.ledger import check, user_created, wire
from tests.waiting import eventually


class Load(threading.Thread):
    """Sends events until stopped. Several users share each key, so that their order is guaranteed."""

    def __init__(self, topics, *, keys: int = 40, every: float = 0.005) -> None:
        super().__init__(name="load", daemon=True)
        self._topics = topics
        self._every = every
        self._stopping = threading.Event()
        prefix = uuid.uuid4().hex[:8]
        self.sent: dict[str, list[str]] = {f"{prefix}-{key}": [] for key in range(keys)}

    def run(self) -> None:
        for number, key in enumerate(itertools.cycle(self.sent)):
            if self._stopping.is_set():
                break
            user_id = f"{key}-{number}"
            topic, _, value, headers = wire(user_created(user_id))
            self._topics.send_later(topic, key.encode(), value, headers)
            self.sent[key].append(user_id)
            time.sleep(self._every)
        self._topics.flush()

    def end(self, *, after: int = 0) -> list[str]:
        """Stop sending, at the earliest `after` so many, and return the users of all keys."""
        eventually(lambda: sum(map(len, self.sent.values())) >= after)
        self._stopping.set()
        self.join(60)
        return [user_id for key in self.sent.values() for user_id in key]


def handled(system, keys: list[str]) -> dict[str, float]:
    """The times at which the events of these keys were processed, by id, in seconds."""
    query = "SELECT event_id, extract(epoch FROM consumed_at)::float8 FROM inbox WHERE key = ANY(%s)"
    return dict(system.rows("orderdb", query, keys))


def check_order_per_key(system, topics, load: Load) -> None:
    """Check a settled system: no event is lost or processed twice, and each key is in order."""
    users = load.end()
    check(system, topics, users)
    at = handled(system, list(load.sent))
    assert len(at) == len(users)
    records: dict[bytes, list] = {}
    for record in topics.of("user.created"):
        records.setdefault(record.key, []).append(record)
    for key, sent in load.sent.items():
        mine = records.get(key.encode(), [])
        assert [record.payload["userId"] for record in mine] == sent
        times = [at[record.id] for record in mine]
        assert times == sorted(times), f"key {key} was overtaken"


def joined(system, *names: str, **changes: str) -> None:
    """Start consumers, and wait until each has partitions."""
    for member in system.start(*names, **changes):
        eventually(lambda member=member: member.metric("events_consumer_assigned_partitions") > 0)
