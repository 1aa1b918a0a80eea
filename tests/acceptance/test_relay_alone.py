"""A single relay that loses Kafka passes its lock to another; if Kafka is unreachable for all, they do not take turns."""

import time
import uuid
from collections.abc import Iterator

import pytest

from embedded.runner import get
from tests.acceptance.fixtures import shown
from tests.acceptance.harness import Member
from tests.acceptance.linked import LinkedHarness, linked_harness
from tests.acceptance.topics import Topics
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

WRITE = """
INSERT INTO outbox (event_id, topic, key, payload, headers, request_id)
SELECT gen_random_uuid(), %s, 'one', convert_to(n::text, 'UTF8'), '[]', '' FROM generate_series(%s::int, %s) AS n
"""
TAKEN_OVER_WITHIN = 20.0
"""Seconds: 8 without a confirmation, up to one until the other relay asks for the lock, and what a busy machine adds."""
AS_QUICK_AS_BEFORE = 10.0


@pytest.fixture(scope="module")
def linked(request: pytest.FixtureRequest) -> Iterator[LinkedHarness]:
    with linked_harness() as harness, shown(request.config, harness):
        yield harness


class Scene:
    """Two relays of users, each with a link to Kafka of its own, and a topic of this test's."""

    def __init__(self, system: LinkedHarness, topic: str, seen: Topics) -> None:
        self.system, self.topic, self._seen = system, topic, seen
        self._next = 0
        links = system.engines.links
        self.first, self.second = self._start("users"), self._start("payments")
        self.links = {self.first.name: links["users>kafka"], self.second.name: links["payments>kafka"]}

    def _start(self, client: str) -> Member:
        """A relay that talks to Kafka as this client does, through that one's link."""
        told = {name: value for name, value in self.system.engines.environment(client).items() if "KAFKA" in name}
        [relay] = self.system.start("users-relay" if client == "users" else "users-relay-1", **told)
        return relay

    def write(self, count: int = 20) -> None:
        with self.system.database("userdb") as connection:
            connection.execute(WRITE, [self.topic, self._next, self._next + count - 1])
        self._next += count

    def all_arrived(self) -> bool:
        return {int(record.value) for record in self._seen.of(self.topic)} >= set(range(self._next))

    def all_marked(self) -> bool:
        left = "SELECT count(*) FROM outbox WHERE topic = %s AND sent_at IS NULL"
        return self.system.rows("userdb", left, self.topic) == [(0,)]

    def numbers(self) -> list[int]:
        """As they arrived; what came again is left out, as readers leave it out."""
        return list(dict.fromkeys(int(record.value) for record in self._seen.of(self.topic)))

    def active(self) -> list[Member]:
        return [one for one in (self.first, self.second) if one.metric("outbox_relay_active")]

    def turns(self) -> int:
        """How often one of them began to send."""
        return sum(len(one.logged("relaying")) for one in (self.first, self.second))


def live(relay: Member) -> bool:
    return get(relay.port, "/health/live")[0] == 200


@pytest.fixture
def scene(linked: LinkedHarness) -> Iterator[Scene]:
    linked.end([name for name in linked.members if "relay" in name or "payments" in name])
    with Topics(linked.engines.kafka.bootstrap_servers) as maker:
        topic = f"alone-{uuid.uuid4()}"
        maker.create(topic, 2)
    with Topics(linked.engines.kafka.bootstrap_servers, [topic]) as seen:
        scene = Scene(linked, topic, seen)
        yield scene
        for link in scene.links.values():
            link.heal()
        linked.end(["users-relay", "users-relay-1"])


@pytest.mark.parametrize("how", ["cut", "hang"])
def test_a_relay_without_kafka_lets_another_send(scene: Scene, how: str):
    [sending] = eventually(scene.active)
    other = next(one for one in (scene.first, scene.second) if one is not sending)
    scene.write()
    eventually(lambda: scene.all_arrived() and scene.all_marked())
    getattr(scene.links[sending.name], how)()
    scene.write()
    eventually(scene.all_arrived, within=TAKEN_OVER_WITHIN, what="the other relay sends")
    assert scene.active() == [other]
    assert live(sending)
    _, body = eventually(lambda: found if (found := sending.readiness())[0] == 503 else None)
    assert body["parts"]["broker"]["status"] == "down"
    scene.write()
    eventually(scene.all_marked)
    scene.links[sending.name].heal()
    eventually(sending.ready, within=30, what="it is ready to stand by again")
    scene.write()
    eventually(lambda: scene.all_arrived() and scene.all_marked())
    assert scene.numbers() == list(range(80))
    assert scene.active() == [other]


def test_when_kafka_is_unreachable_relays_do_not_take_turns(scene: Scene):
    eventually(scene.active)
    scene.write()
    eventually(lambda: scene.all_arrived() and scene.all_marked())
    for link in scene.links.values():
        link.cut()
    scene.write()
    eventually(lambda: not scene.active(), within=TAKEN_OVER_WITHIN, what="the lock is given up")
    turns = scene.turns()
    eventually(lambda: min(map(oldest, (scene.first, scene.second))) > 25, within=60, what="time passes")
    assert scene.turns() == turns
    assert all(live(one) for one in (scene.first, scene.second))
    scene.write()
    healed = time.monotonic()
    for link in scene.links.values():
        link.heal()
    eventually(scene.all_arrived, within=AS_QUICK_AS_BEFORE, what="it is sent as soon as Kafka is back")
    print(f"sent {time.monotonic() - healed:.1f} s after Kafka was back")
    eventually(scene.all_marked)
    eventually(lambda: all(one.ready() for one in (scene.first, scene.second)))
    assert scene.numbers() == list(range(60))
    assert scene.turns() == turns + 1


def oldest(relay: Member) -> float:
    return relay.metric("outbox_oldest_age_seconds")
