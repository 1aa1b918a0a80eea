"""Searching topics of a real Kafka from their ends."""

import time

import pytest
from confluent_kafka import Producer

from chassis.kafka.records import Record
from console.failures import NotFound
from console.sources import walk
from console.sources.kafka import Topics
from tests.chassis.support import kafka_helpers as kafka
from tests.waiting import eventually


@pytest.fixture(scope="module")
def topics():
    topics = Topics()
    yield topics
    topics.close()


def path(most: int = 10, **more) -> walk.Path:
    keep = more.pop("keep", lambda record: int(record.value))
    return walk.Path(wanted=more.pop("wanted", walk.everything), keep=keep, most=most, **more)


@pytest.fixture(scope="module")
def numbers() -> str:
    """A topic with the numbers from 0 to 299, in the order of their times, in three partitions of very different sizes."""
    topic = kafka.new_topic(partitions=3)
    producer = Producer(kafka.servers())
    for number in range(300):
        partition = 2 if number % 50 == 0 else number % 2
        producer.produce(topic, b"%d" % number, partition=partition, timestamp=BEGAN + number)
    assert producer.flush(60) == 0
    return topic


BEGAN = int(time.time() * 1_000) - 3_600_000


def responding(walked: walk.Walked) -> walk.Walked | None:
    return None if walked.unknown else walked


def all_pages(topics, topic, most=7, since=None, until=None, **more) -> list[int]:
    found, at = [], {}
    for _ in range(1_000):
        # A partition of a new topic may not respond yet.
        walked = eventually(lambda at=at: responding(topics.walk(topic, path(most, at=at, **more), None, since, until)))
        found += walked.found
        if not walked.at:
            assert walked.left == 0
            return found
        at = walked.at
    raise AssertionError("no end")


def test_newest_first_over_all_partitions(topics, numbers):
    walked = topics.walk(numbers, path(5), None, None, None)
    assert walked.found == (299, 298, 297, 296, 295)
    assert walked.records == 5
    assert walked.left == 295
    assert walked.reached_ms == BEGAN + 295


@pytest.mark.parametrize("most", [1, 7, 300, 1_000])
@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_have_each_record_once_and_in_order(topics, numbers, most, newest_first):
    found = all_pages(topics, numbers, most, newest_first=newest_first)
    assert found == sorted(range(300), reverse=newest_first)


def test_records_that_arrive_between_two_pages_shift_nothing(topics):
    topic = kafka.new_topic(partitions=2)
    kafka.send(topic, *((b"%d" % n, b"%d" % n, []) for n in range(20)))
    first = topics.walk(topic, path(8), None, None, None)
    kafka.send(topic, *((b"%d" % n, b"%d" % n, []) for n in range(20, 40)))
    second = topics.walk(topic, path(100, at=first.at), None, None, None)
    assert sorted([*first.found, *second.found]) == list(range(20))


def test_only_what_is_wanted_and_how_far_it_looked(topics, numbers):
    walked = topics.walk(numbers, path(3, wanted=lambda r: int(r.value) % 100 == 0), None, None, None)
    assert walked.found == (200, 100, 0)
    assert walked.records == 300
    assert walked.left == 0
    assert walked.size >= 300


def test_a_time_range_by_the_brokers_index(topics, numbers):
    found = all_pages(topics, numbers, since=BEGAN + 100, until=BEGAN + 110)
    assert found == list(range(109, 99, -1))
    assert topics.walk(numbers, path(), None, BEGAN + 9_999_999, None).found == ()


def test_one_partition_from_an_offset(topics, numbers):
    assert topics.walk(numbers, path(2, at={2: 4}), 2, None, None).found == (150, 100)
    assert topics.walk(numbers, path(2, at={2: 4}, newest_first=False), 2, None, None).found == (200, 250)
    assert topics.walk(numbers, path(2, at={2: 2**63 - 1}), 2, None, None).found == (250, 200)
    with pytest.raises(NotFound):
        topics.walk(numbers, path(), 3, None, None)


def test_it_ends_after_some_bytes_and_is_continued(topics, numbers):
    nothing = {"wanted": lambda record: False}
    first = topics.walk(numbers, path(most_bytes=1, first=10, **nothing), None, None, None)
    assert first.found == ()
    assert 0 < first.records < 300
    assert first.records + first.left == 300
    rest = topics.walk(numbers, path(at=first.at, **nothing), None, None, None)
    assert (rest.records, rest.left) == (first.left, 0)


def test_it_ends_after_some_time(topics, numbers, monkeypatch):
    monkeypatch.setattr(walk, "SECONDS", -1.0)
    found, at, pages = [], {}, 0
    while not pages or at:  # each comes further, although its time has passed when it begins
        walked = topics.walk(numbers, path(1_000, at=at, first=10), None, None, None)
        assert walked.records
        found += walked.found
        at, pages = walked.at, pages + 1
    assert found == list(range(299, -1, -1))
    assert pages > 1


def test_transactions_leave_gaps(topics):
    topic = kafka.new_topic(partitions=1)
    producer = Producer({**kafka.servers(), "transactional.id": topic})
    producer.init_transactions(60)
    for number in range(80):
        producer.begin_transaction()
        producer.produce(topic, b"%d" % number)
        assert producer.flush(60) == 0
        (producer.commit_transaction if number % 40 == 0 else producer.abort_transaction)(60)
    assert all_pages(topics, topic, 1) == [40, 0]
    assert all_pages(topics, topic, 1, newest_first=False) == [0, 40]


def test_large_records_are_read_in_small_portions(topics, monkeypatch):
    monkeypatch.setattr(walk, "PORTION_BYTES", 200_000)
    topic = kafka.new_topic(partitions=2, **{"max.message.bytes": "2000000"})
    producer = Producer({**kafka.servers(), "message.max.bytes": 2_000_000})
    failed = []
    for number in range(40):
        value = b"%d" % number + b" " * (1_000_000 if number == 37 else 90_000)
        place = {"partition": number % 2, "timestamp": BEGAN + number}
        producer.produce(topic, value, **place, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(60) == 0
    assert not failed
    assert all_pages(topics, topic, 9) == list(range(39, -1, -1))
    assert all_pages(topics, topic, 9, newest_first=False) == list(range(40))


def test_what_retention_has_deleted_is_not_missed(topics):
    topic = kafka.new_topic(partitions=1)
    kafka.send(topic, *((None, b"%d" % n, []) for n in range(30)))
    first = topics.walk(topic, path(5), None, None, None)
    kafka.delete_before(topic, 0, 27)
    second = topics.walk(topic, path(5, at=first.at), None, None, None)
    assert (second.found, second.at) == ((), {})
    assert all_pages(topics, topic) == [29, 28, 27]


def test_a_partition_that_does_not_respond_is_named_and_read_later():
    """Without Kafka: a broker that answers for one partition only cannot be had from one broker."""
    known = {0: (0, 3)}

    def read(ranges, limits):
        assert set(ranges) <= set(known)
        return [record(number, at) for number, (begin, end) in ranges.items() for at in range(begin, end)], set()

    def record(number: int, offset: int) -> Record:
        return Record("t", number, offset, None, b"%d" % (10 * number + offset), [], offset, 1)

    first = walk.walk(path(2, at={1: 7}), known | {1: (-1, -1)}, read)
    assert first.found == (2, 1)
    assert first.unknown == (1,)
    assert first.at == {0: 1, 1: 7}
    known[1] = (5, 9)
    second = walk.walk(path(9, at=first.at), known, read)
    assert (sorted(second.found), second.unknown, second.at) == ([0, 15, 16], (), {})
