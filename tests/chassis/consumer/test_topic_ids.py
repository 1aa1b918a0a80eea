"""A topic is deleted and recreated under running consumers: no record of the new topic is skipped."""

import json
import uuid
from typing import ClassVar

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from chassis.consumer.consumer import Consumer as Loop
from chassis.consumer.topic_ids import TopicIds
from chassis.events import Event, Outgoing, publish_all
from tests.chassis.support.kafka_helpers import make_topic, new_topic, read, servers
from tests.chassis.support.loops import Restarting, running
from tests.waiting import eventually

OLD, NEW = 20, 60
"""Records of the old topic, and of the new one: more, so that the old position is a place in it."""


def send_all(topic: str, scene, numbers: range) -> None:
    """By a producer that knows nothing of an earlier topic; each number on partition 0, under a key of its own."""
    producer = Producer({**servers(), "acks": "all", "enable.idempotence": True})
    for number in numbers:
        key, value, headers = scene.event(number, key=f"k{number}")
        producer.produce(topic, value, key, 0, headers=headers)
    assert producer.flush(30) == 0


def delete(name: str) -> None:
    client = AdminClient(servers())
    client.delete_topics([name], operation_timeout=30)[name].result()

    def gone() -> bool:
        return name not in client.list_topics(timeout=10).topics

    eventually(gone)


def recreate(scene) -> None:
    """The new topic is there, with more records than the old one had, before any client has looked again."""
    delete(scene.topic)
    eventually(lambda: make_topic(scene.topic, partitions=2))
    send_all(scene.topic, scene, range(100, 100 + NEW))


def position(scene) -> TopicPartition:
    """What the group has committed for partition 0."""
    client = Consumer(servers() | {"group.id": scene.group})
    try:
        [found] = client.committed([TopicPartition(scene.topic, 0)], timeout=10)
        return found
    finally:
        client.close()


def numbers(scene) -> list[int]:
    return sorted(number for _, number in scene.handled)


@pytest.mark.django_db(databases=["users"], transaction=True)
class TestWithDatabase:
    def test_the_first_records_of_the_new_topic_are_handled(self, scene):
        send_all(scene.topic, scene, range(OLD))
        with running(Restarting):
            eventually(lambda: len(scene.handled) == OLD)
            eventually(lambda: position(scene).offset == OLD)
            recreate(scene)
            eventually(lambda: numbers(scene) == [*range(OLD), *range(100, 100 + NEW)])
            eventually(lambda: position(scene).offset == NEW, what="the offsets are of the new topic")

    def test_offsets_of_the_old_topic_are_void_for_the_next_member(self, scene):
        """A consumer that had not noticed has committed its old position into the new topic, and was killed."""
        send_all(scene.topic, scene, range(OLD))
        with running(Restarting):
            eventually(lambda: position(scene).offset == OLD)
        old = position(scene)
        assert old.metadata
        recreate(scene)
        client = Consumer(servers() | {"group.id": scene.group, "enable.auto.commit": False})
        client.commit(offsets=[TopicPartition(scene.topic, 0, OLD, old.metadata)], asynchronous=False)
        client.close()
        with running(Restarting):
            eventually(lambda: numbers(scene) == [*range(OLD), *range(100, 100 + NEW)])
            eventually(lambda: position(scene).offset == NEW)
            assert position(scene).metadata not in {"", old.metadata}

    def test_an_offset_without_topic_id_is_accepted(self, scene):
        """Those of an earlier version, and of a replay."""
        send_all(scene.topic, scene, range(OLD))
        client = Consumer(servers() | {"group.id": scene.group, "enable.auto.commit": False})
        client.commit(offsets=[TopicPartition(scene.topic, 0, 5)], asynchronous=False)
        client.close()
        with running(Restarting):
            eventually(lambda: position(scene).offset == OLD)
        assert numbers(scene) == list(range(5, OLD))

    def test_an_unchanged_topic_is_never_mistaken_for_a_new_one(self, scene, monkeypatch):
        monkeypatch.setattr("chassis.consumer.topic_ids.EVERY_SECONDS", 0.01)
        asked = []
        learn = TopicIds._learn
        monkeypatch.setattr(TopicIds, "_learn", lambda *args: (asked.append(args), learn(*args)))
        with running(Loop):  # would raise
            send_all(scene.topic, scene, range(OLD))
            eventually(lambda: len(asked) > 50)
            eventually(lambda: len(scene.handled) == OLD)


@pytest.mark.service("payments")
def test_without_database(scene):
    """The offsets of a Kafka transaction say which topic they are of, too."""
    out = new_topic("said", partitions=1)

    class Said(Event):
        topic: ClassVar[str] = out
        number: int

    def react(_, received) -> None:
        publish_all(
            Outgoing(Said(number=one.event.number), key=one.key, event_id=str(uuid.uuid4())) for one in received
        )

    scene.react = react
    send_all(scene.topic, scene, range(OLD))
    with running(Restarting):
        eventually(lambda: position(scene).offset == OLD)
        assert position(scene).metadata
        recreate(scene)
        wanted = {*range(OLD), *range(100, 100 + NEW)}
        eventually(lambda: set(numbers(scene)) == wanted)  # what it read before it knew comes again
        eventually(lambda: {json.loads(message.value())["number"] for message in read(out, OLD + NEW)} == wanted)
