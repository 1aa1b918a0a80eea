"""Topics and consumer groups of a real Kafka."""

import threading
import time
import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from console.failures import Away, NotFound
from console.sources import assignments, cluster
from console.sources.cluster import Cluster
from console.sources.kafka import Topics
from embedded import ports
from tests.chassis.support import kafka_helpers as kafka
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def prefix(settings) -> str:
    """The prefix of a test's topics and groups: the groups of all other tests would not be read in time."""
    settings.KAFKA_PREFIX = f"cluster-{uuid.uuid4().hex[:8]}."
    return settings.KAFKA_PREFIX


@pytest.fixture
def overview(monkeypatch):
    """Reads the overview; each time from the brokers."""
    monkeypatch.setattr(cluster, "FRESH_SECONDS", 0.0)
    topics = Topics()
    yield Cluster(topics).overview
    topics.close()


@pytest.fixture
def consumer():
    made = []

    def consume(group: str, topic: str) -> Consumer:
        client = Consumer(
            {
                **kafka.servers(),
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "client.id": "ada",
            }
        )
        made.append(client)
        client.subscribe([topic])
        return client

    yield consume
    for client in made:
        client.close()


def test_members_with_their_partitions_and_lag(overview, consumer, prefix):
    topic = kafka.new_topic(f"{prefix}t", partitions=3)
    kafka.send(topic, *((b"k", b"%d" % number, []) for number in range(10)))
    client = consumer(f"{topic}-group", topic)

    def assigned():
        client.poll(0.1)
        group = overview().groups.get(f"{topic}-group")
        return group if group and group.members and len(group.positions) == 3 and group.state == "Stable" else None

    # A group that has committed nothing is known by what its members are assigned.
    client.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False) if eventually(
        lambda: client.poll(0.1) is not None or client.assignment()
    ) else None
    group = eventually(assigned)
    [member] = group.members
    assert member.client_id == "ada"
    assert member.host == "127.0.0.1"
    assert member.partitions == ((topic, 0), (topic, 1), (topic, 2))
    assert {one.member for one in group.positions} == {member.id}
    assert group.lag == 10

    [number] = [one.partition for one in group.positions if one.end]
    client.commit(offsets=[TopicPartition(topic, number, 7)], asynchronous=False)
    position = overview().group(f"{topic}-group").position(topic, number)
    assert (position.committed, position.lag) == (7, 3)
    assert position.has_passed(6)
    assert not position.has_passed(7)
    assert [one.name for one in overview().readers[topic]] == [f"{topic}-group"]

    client.close()
    gone = overview().group(f"{topic}-group")
    assert (gone.members, gone.lag) == ((), 3)


def test_the_end_of_a_transaction_is_no_lag(overview, prefix):
    topic = kafka.new_topic(f"{prefix}t", partitions=1)
    producer = Producer({**kafka.servers(), "transactional.id": topic})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b"x")
    producer.commit_transaction(60)
    client = Consumer({**kafka.servers(), "group.id": f"{topic}-group"})
    client.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    client.close()

    def lag() -> int:
        [position] = [one for one in overview().group(f"{topic}-group").positions if one.topic == topic]
        assert position.span == position.end - 1
        return position.lag

    assert lag() == 0
    kafka.send(topic, (None, b"y", []))
    assert lag() == 1


def test_a_group_that_has_never_run_is_known_by_its_dead_letter_topics(overview, prefix):
    topic = kafka.new_topic(f"{prefix}t", partitions=2)
    kafka.send(topic, *((b"%d" % n, b"x", []) for n in range(9)))
    kafka.make_topic(f"{topic}.never.dlq", partitions=1)
    group = overview().group(f"{prefix}never")
    assert (group.members, group.state) == ((), "")
    assert sum(one.lag for one in group.positions if one.topic == topic) == 9


def test_bounds_and_rates_of_topics(overview, prefix):
    topic = kafka.new_topic(f"{prefix}t", partitions=2)
    kafka.send(topic, *((b"k", b"x", []) for _ in range(10)))
    first = overview()
    assert first.topic(topic).span == 10
    time.sleep(0.2)
    kafka.send(topic, *((b"k", b"x", []) for _ in range(10)))
    second = overview()
    assert 0 < second.rates[topic] <= 50
    with pytest.raises(NotFound, match="'nope'"):
        second.topic("nope")
    with pytest.raises(NotFound, match="'nope'"):
        second.group("nope")


def test_many_readers_cost_one_request(monkeypatch):
    monkeypatch.setattr(cluster, "FRESH_SECONDS", 60.0)
    shared = Cluster(Topics())
    found = []
    threads = [threading.Thread(target=lambda: found.append(shared.overview())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(one) for one in found}) == 1


def test_kafka_away_and_back(overview, settings):
    there = settings.KAFKA_BOOTSTRAP_SERVERS
    settings.KAFKA_BOOTSTRAP_SERVERS = f"127.0.0.1:{ports.free(1)[0]}"
    with pytest.raises(Away, match="Kafka"):
        overview()
    settings.KAFKA_BOOTSTRAP_SERVERS = there
    assert eventually(overview).at


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x01\x00\x00\x00\x01",
        b"\x00\x00\x7f\xff\xff\xff",
        b"\xff" * 100,
        b"\x00\x00\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff",
    ],
)
def test_foreign_assignments_are_none(data):
    assert assignments.decode(data) == ()
