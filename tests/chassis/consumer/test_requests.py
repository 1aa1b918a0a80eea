"""Requests that are in progress when their client is replaced end, and the next ones follow."""

import gc

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from chassis.consumer import lost_events, topic_ids, unread
from chassis.consumer.lost_events import LostEvents
from chassis.consumer.topic_ids import TopicIds
from chassis.consumer.unread import UnreadPartitions
from chassis.health.heartbeat import Heartbeat
from chassis.kafka import clients, renewal
from chassis.kafka.renewal import Renewed
from embedded import ports
from tests.waiting import eventually

PLACE = ("t", 0)


class Replaced:
    """A client that is replaced after each request, which no broker receives."""

    def __init__(self, port: int) -> None:
        self.asked = 0
        self._client = Renewed(lambda: AdminClient({"bootstrap.servers": f"{ports.HOST}:{port}", "log_level": 0}))

    def __call__(self) -> AdminClient:
        self.asked += 1
        client = self._client.get()
        for _ in range(2):
            self._client.note(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        gc.collect()
        return client


def of_topic_ids(admin: Replaced):
    ids = TopicIds()
    ids._needed.topics = frozenset({"t"})
    ids.admin = admin  # type: ignore[method-assign]
    return ids.raise_if_recreated


def of_lost_events(admin: Replaced):
    lost = LostEvents(clients.reader(), admin, Heartbeat("test"), lambda *_: False)
    lost._next[PLACE] = 5
    return lambda: lost.check({PLACE})


def of_unread_partitions(admin: Replaced):
    return UnreadPartitions(admin, lambda: {PLACE}, lambda _: 5).check


@pytest.mark.parametrize("make", [of_topic_ids, of_lost_events, of_unread_partitions])
def test_a_request_of_a_replaced_client_ends(make, monkeypatch):
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 0.0)
    for module in (topic_ids, lost_events, unread):
        monkeypatch.setattr(module, "EVERY_SECONDS", 0.05)
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    [port] = ports.free(1)
    admin = Replaced(port)
    check = make(admin)

    def several() -> bool:
        check()
        return admin.asked > 3

    eventually(several, what="one request after the other")
