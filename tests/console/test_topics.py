"""Reading topics of a real Kafka."""

import time

import pytest
from confluent_kafka import Producer

from chassis.kafka import clients
from console.failures import Away, NotFound
from console.sources.kafka import MOST_BYTES, Topics
from embedded import ports
from tests.chassis.support import kafka_helpers as kafka
from tests.waiting import eventually


@pytest.fixture
def topics():
    topics = Topics()
    yield topics
    topics.close()


def values(portion) -> list[bytes]:
    return [record.value for record in portion.records]


def numbered(count: int, start: int = 0) -> list:
    return [(b"key", b"%d" % number, []) for number in range(start, start + count)]


class TestRead:
    def test_a_range_from_an_offset(self, topics):
        topic = kafka.new_topic(partitions=1)
        kafka.send(topic, *numbered(50))
        found = topics.read(topic, 0, 10, 5)
        assert values(found) == [b"10", b"11", b"12", b"13", b"14"]
        assert found.is_complete
        assert [record.offset for record in found.records] == list(range(10, 15))
        assert values(topics.read(topic, 0, 48, 100)) == [b"48", b"49"]
        assert values(topics.read(topic, 0, 50, 100)) == []
        assert values(topics.read(topic, 0, -5, 1)) == [b"0"]

    def test_after_retention_it_begins_with_what_is_left(self, topics):
        topic = kafka.new_topic(partitions=1)
        kafka.send(topic, *numbered(20))
        kafka.delete_before(topic, 0, 15)
        assert values(topics.read(topic, 0, 0, 2)) == [b"15", b"16"]
        with pytest.raises(NotFound, match="no record at offset 3"):
            topics.record(topic, 0, 3)
        assert topics.record(topic, 0, 15).value == b"15"

    def test_what_was_not_committed_is_not_read(self, topics):
        topic = kafka.new_topic(partitions=1)
        producer = Producer({**kafka.servers(), "transactional.id": topic})
        producer.init_transactions(30)
        for number in range(6):
            producer.begin_transaction()
            producer.produce(topic, b"%d" % number)
            producer.flush(30)
            (producer.commit_transaction if number % 2 else producer.abort_transaction)(30)
        assert values(topics.read(topic, 0, 0, 100)) == [b"1", b"3", b"5"]
        # Each transaction takes an offset too: more of the topic is read until there are enough records.
        assert values(topics.last(topic, 3)) == [b"5", b"3", b"1"]

    def test_the_last_ones_of_many_are_found_among_aborted_ones(self, topics):
        topic = kafka.new_topic(partitions=1)
        kafka.send(topic, *numbered(5))
        producer = Producer({**kafka.servers(), "transactional.id": topic})
        producer.init_transactions(30)
        producer.begin_transaction()
        for number in range(500):
            producer.produce(topic, b"aborted %d" % number)
        producer.flush(30)
        producer.abort_transaction(30)
        assert values(topics.last(topic, 5)) == [b"4", b"3", b"2", b"1", b"0"]

    def test_the_last_ones_of_all_partitions_newest_first(self, topics):
        topic = kafka.new_topic(partitions=3)
        producer = Producer(kafka.servers())
        began = int(time.time() * 1000) - 100_000
        for number in range(30):
            producer.produce(topic, b"%d" % number, partition=number % 3, timestamp=began + number)
        assert producer.flush(30) == 0
        assert values(topics.last(topic, 4)) == [b"29", b"28", b"27", b"26"]
        assert values(topics.last(topic, 2, partition=1)) == [b"28", b"25"]
        assert topics.at_time(topic, began + 27) == {0: 9, 1: 9, 2: 9}
        assert topics.at_time(topic, began + 999) == {0: 10, 1: 10, 2: 10}

    def test_large_and_odd_records(self, topics):
        topic = kafka.new_topic(partitions=1, **{"max.message.bytes": "12000000"})
        producer = Producer({**kafka.servers(), "message.max.bytes": 12_000_000})
        large = bytes(range(256)) * 40_000
        for value in (large, large, large, None, b""):
            producer.produce(topic, value, None, headers=[("", b"\xff\x00"), ("empty", b""), ("null", None)])
        assert producer.flush(60) == 0
        found = topics.read(topic, 0, 0, 100)
        assert sum(record.size for record in found.records) < MOST_BYTES + 2 * len(large)
        assert found.records[0].value == large
        rest = topics.read(topic, 0, 3, 100)
        assert values(rest) == [None, b""]
        assert rest.records[0].headers == [("", b"\xff\x00"), ("empty", b""), ("null", None)]

    def test_it_has_joined_no_group_and_committed_nothing(self, topics):
        topic = kafka.new_topic(partitions=1)
        kafka.send(topic, *numbered(5))
        topics.read(topic, 0, 0, 5)
        admin = clients.admin()  # a client that is destroyed before the answer arrives never gives one
        groups = [group.group_id for group in admin.list_consumer_groups(request_timeout=30).result(60).valid]
        assert not any(group.endswith("console") for group in groups)


class TestList:
    def test_topics_with_the_ends_of_their_partitions(self, topics):
        topic = kafka.new_topic(partitions=2)
        kafka.send(topic, *numbered(7))
        kafka.make_topic(f"{topic}.orders.dlq", partitions=1)
        found = topics.topic(topic)
        assert [one.number for one in found.partitions] == [0, 1]
        assert found.span == 7
        known = {one.name: one for one in topics.all()}
        assert known[topic] == found
        assert known[f"{topic}.orders.dlq"].is_dead_letter_topic
        assert "__consumer_offsets" not in topics.names()

    def test_other_environments_are_not_shown(self, topics, settings):
        own, other = kafka.new_topic("staging.t"), kafka.new_topic("t")
        settings.KAFKA_PREFIX = "staging."
        assert own in topics.names()
        assert other not in topics.names()
        with pytest.raises(NotFound):
            topics.topic(other)

    @pytest.mark.parametrize(
        "ask",
        [lambda t: t.topic("x"), lambda t: t.last("x", 1), lambda t: t.read("x", 0, 0, 1), lambda t: t.at_time("x", 0)],
    )
    def test_what_is_unknown_is_named(self, topics, ask):
        with pytest.raises(NotFound, match="'x'"):
            ask(topics)
        assert topics.source.state.up


class TestAway:
    def test_it_is_a_state_with_a_reason_and_ends_by_itself(self, topics, settings):
        topic = kafka.new_topic(partitions=1)
        there = settings.KAFKA_BOOTSTRAP_SERVERS
        settings.KAFKA_BOOTSTRAP_SERVERS = f"127.0.0.1:{ports.free(1)[0]}"
        began = time.time()
        for _ in range(2):
            with pytest.raises(Away) as away:
                topics.names()
        state = topics.source.state
        assert (state.up, state.source) == (False, "Kafka")
        assert began <= state.since < time.time()
        assert away.value.reason
        settings.KAFKA_BOOTSTRAP_SERVERS = there
        assert eventually(lambda: topic in topics.names())
        assert topics.source.state.up
