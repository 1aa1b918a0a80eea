"""Replay: a group without members is reset, and replayed events change nothing, with or without an inbox."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import TopicPartition

from chassis.consumer.consumer import Consumer
from chassis.consumer.replay import BadStart, GroupInUse, Start, parse, rewind
from chassis.kafka import clients
from chassis.messaging.models import InboxEvent
from tests.chassis.support.kafka_helpers import make_topic, send, servers
from tests.chassis.support.loops import running
from tests.waiting import eventually


class TestParse:
    @pytest.mark.parametrize(
        ("text", "start"),
        [
            ("beginning", Start()),
            ("0", Start(offset=0)),
            ("120", Start(offset=120)),
            ("2026-11-23T12:00:00Z", Start(time=datetime(2026, 11, 23, 12, tzinfo=UTC))),
            ("2026-11-23T13:00:00+01:00", Start(time=datetime(2026, 11, 23, 12, tzinfo=UTC))),
        ],
    )
    def test_reads_a_start(self, text, start):
        assert parse(text) == start

    @pytest.mark.parametrize("text", ["", "end", "-1", "yesterday", "2026-11-23T12:00:00"])
    def test_refuses_anything_else(self, text):
        with pytest.raises(BadStart):
            parse(text)


class TestRewind:
    """On a topic of two partitions, one with ten records and one empty."""

    @pytest.fixture
    def topic(self) -> str:
        name = make_topic(f"t-{uuid.uuid4().hex[:8]}", partitions=2)
        client = clients.producer()
        for number in range(10):
            client.produce(name, b"v", b"k", partition=0, timestamp=1_700_000_000_000 + number * 1000)
        assert client.flush(30) == 0
        return name

    @pytest.mark.parametrize(
        ("start", "at"),
        [
            (Start(), (0, 0)),
            (Start(offset=4), (4, 0)),
            (Start(offset=99), (10, 0)),
            (Start(time=datetime.fromtimestamp(1_700_000_007, UTC)), (7, 0)),
            (Start(time=datetime.now(UTC) + timedelta(days=1)), (10, 0)),
        ],
    )
    def test_sets_every_partition(self, topic, start, at):
        group = f"g-{uuid.uuid4().hex[:8]}"
        done = rewind(clients.admin(), group, [topic], start)
        assert [(one.partition, one.before, one.now) for one in done] == [(0, None, at[0]), (1, None, at[1])]
        client = KafkaConsumer({**servers(), "group.id": group})
        found = client.committed([TopicPartition(topic, n) for n in range(2)], timeout=60)
        client.close()
        assert tuple(place.offset for place in found) == at
        again = rewind(clients.admin(), group, [topic], Start())
        assert [one.before for one in again] == list(at)


@pytest.mark.django_db(databases=["users"], transaction=True)
class TestConsumer:
    def test_an_active_group_is_left_unchanged(self, scene):
        scene.send(*(scene.event(n) for n in range(5)))
        with running(Consumer):
            eventually(lambda: len(scene.handled) == 5)
            with pytest.raises(GroupInUse, match=f"{scene.group} has live members: stop its consumers first"):
                rewind(clients.admin(), scene.group, [scene.topic], Start())
        assert rewind(clients.admin(), scene.group, [scene.topic], Start())

    def test_events_in_the_inbox_are_not_processed_again(self, scene):
        self.consume(scene, 20)
        rewind(clients.admin(), scene.group, [scene.topic], Start())
        scene.send(scene.event(99, key="end"))
        with running(Consumer):
            eventually(lambda: scene.numbers("end"))
        assert len(scene.handled) == 21

    def test_without_an_inbox_everything_is_replayed_in_order(self, scene):
        self.consume(scene, 20)
        InboxEvent.objects.all().delete()
        rewind(clients.admin(), scene.group, [scene.topic], Start())
        with running(Consumer):
            eventually(lambda: len(scene.handled) == 40)
        assert scene.numbers("k") == [*range(20), *range(20)]

    def test_a_new_group_reads_from_the_beginning(self, scene, settings):
        self.consume(scene, 20)
        InboxEvent.objects.all().delete()
        settings.SERVICE_NAME = f"group-{uuid.uuid4().hex[:8]}"
        send(scene.topic, scene.event(20))
        with running(Consumer):
            eventually(lambda: len(scene.handled) == 41)
        assert scene.numbers("k") == [*range(20), *range(21)]

    @staticmethod
    def consume(scene, count: int) -> None:
        scene.send(*(scene.event(n) for n in range(count)))
        with running(Consumer):
            eventually(lambda: len(scene.handled) == count)
