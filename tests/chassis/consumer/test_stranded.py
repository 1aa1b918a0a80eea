"""Consumers whose client does not rejoin its group after the broker was frozen are noticed, and a new one takes their place.

It happens to some of ten in each freeze that is longer than the session timeouts. See docs/adr/0065-clients-without-brokers.md.
"""

import ctypes
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from chassis.consumer import membership as module
from chassis.consumer.membership import STRANDED_CHECKS, Membership
from chassis.health.heartbeat import Heartbeat
from chassis.kafka import clients
from chassis.kafka.errors import Stranded
from embedded import cache
from embedded.kafka import Kafka
from tests.chassis.support.kafka_helpers import new_topic
from tests.waiting import eventually

pytestmark = pytest.mark.service("orders")

MEMBERS, FREEZES = 10, 10
FROZEN_SECONDS = 9.0
RECOVERED_WITHIN = 40.0
"""Much longer than any interval at which a client tries to reconnect."""


class Member:
    """The only member of a group, polled in a thread until `ended`.

    One that is stranded can neither be closed nor destroyed: librdkafka waits forever for its own thread, which keeps a processor
    busy. The garbage collector could destroy it in any thread at any time, so the client is kept until the process ends.
    """

    def __init__(self, topic: str, ended: threading.Event, group: str = "") -> None:
        self.group = group or f"stranded-{uuid.uuid4()}"
        self.has_partitions = False
        self.client = clients.consumer(4, **{"group.id": self.group, "group.instance.id": "one"})
        self._topic = topic
        self._ended = ended
        threading.Thread(target=self._poll, daemon=True).start()

    def _poll(self) -> None:
        self.client.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._lost, on_lost=self._lost)
        while not self._ended.is_set():
            self.client.poll(0.2)
        if self.has_partitions:
            self.client.close()
        else:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.client))

    def _assigned(self, *_: object) -> None:
        self.has_partitions = True

    def _lost(self, *_: object) -> None:
        self.has_partitions = False


@pytest.fixture(scope="module")
def broker() -> Iterator[Kafka]:
    """A broker of its own, since it is frozen."""
    with cache.temporary_folder("stranded") as folder, Kafka(folder) as kafka:
        yield kafka


@pytest.fixture
def topic(broker: Kafka, settings, monkeypatch) -> str:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.0)
    settings.KAFKA_BOOTSTRAP_SERVERS = broker.bootstrap_servers
    return new_topic(partitions=6)


@pytest.fixture
def ended() -> Iterator[threading.Event]:
    """Set after the test."""
    event = threading.Event()
    yield event
    event.set()


def joined(members: list[Member]) -> bool:
    return all(member.has_partitions for member in members)


def freeze(broker: Kafka) -> None:
    broker.members[0].child.pause()
    try:
        time.sleep(FROZEN_SECONDS)
    finally:
        broker.members[0].child.resume()


def test_it_is_noticed_and_replaced(broker, topic, ended):
    members = [Member(topic, ended) for _ in range(MEMBERS)]
    eventually(lambda: joined(members), what="all have joined")
    for _ in range(FREEZES):
        freeze(broker)
        until = time.monotonic() + RECOVERED_WITHIN
        while not joined(members) and time.monotonic() < until:
            time.sleep(0.2)
        if not joined(members):
            break
    else:
        pytest.fail("every client recovered: ADR 0065 may no longer be needed with this version of librdkafka")
    lost = next(member for member in members if not member.has_partitions)

    membership = Membership(lost.client, Heartbeat("consume"), lambda: None, set())
    membership.join()
    with pytest.raises(Stranded):
        # On a busy machine, a new client may be late too, and then nothing is known of the old one.
        eventually(lambda: membership.raise_if_stranded(time.monotonic()), what="it is noticed")
    assert not lost.has_partitions, "it did not recover meanwhile"
    successor = Member(topic, ended, lost.group)
    eventually(lambda: joined([successor]), what="a new client joins")


def test_who_has_joined_is_not_stranded(broker, topic, ended):
    member = Member(topic, ended)
    eventually(lambda: joined([member]))
    membership = Membership(member.client, Heartbeat("consume"), lambda: None, set())
    membership.join()
    membership.joined()
    assert clients.new_client_gets_response()
    for _ in range(2 * STRANDED_CHECKS):
        membership.raise_if_stranded(time.monotonic())


def test_an_unreachable_broker_is_no_reason(broker, topic, ended):
    membership = Membership(Member(topic, ended).client, Heartbeat("consume"), lambda: None, set())
    membership.join()
    broker.members[0].child.pause()
    try:
        assert not clients.new_client_gets_response()
        for _ in range(STRANDED_CHECKS + 1):
            membership.raise_if_stranded(time.monotonic())
    finally:
        broker.members[0].child.resume()
