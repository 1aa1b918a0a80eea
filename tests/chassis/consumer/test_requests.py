"""Requests that are in progress when their client is replaced end, and the next ones follow."""

import gc

import pytest
from confluent_kafka.admin import AdminClient

from chassis.consumer import lost_events, topic_ids, unread
from chassis.consumer.lost_events import LostEvents
from chassis.consumer.topic_ids import TopicIds
from chassis.consumer.unread import UnreadPartitions
from chassis.health.heartbeat import Heartbeat
from chassis.kafka import clients
from embedded import ports
from tests.waiting import eventually

PLACE = ("t", 0)


class Replaced:
    """Makes a client for each request, which nothing else keeps. No broker responds to it."""

    def __init__(self, port: int) -> None:
        self.asked = 0
        self._servers = f"{ports.HOST}:{port}"

    def __call__(self) -> AdminClient:
        gc.collect()
        self.asked += 1
        return AdminClient({"bootstrap.servers": self._servers, "log_level": 0})


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
