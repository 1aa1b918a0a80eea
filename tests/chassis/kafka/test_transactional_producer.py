"""The transactional producer on a real broker: all or nothing, and one per transactional id at a time."""

import uuid
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException, Producer
from django.test import override_settings

from chassis.kafka import clients, patience
from chassis.kafka.errors import Fenced, Stranded, Unsure
from chassis.kafka.patience import Endless, Patience
from chassis.kafka.transactional_producer import TransactionalProducer
from tests.chassis.support.kafka_helpers import new_topic, read

# confluent-kafka's word about a producer that was fenced; pytest shows what the code under test does not.
pytestmark = pytest.mark.filterwarnings("ignore:Producer abort_transaction failed during close")


@pytest.fixture
def topic() -> str:
    return new_topic("written", partitions=1)


def opened(name: str) -> TransactionalProducer:
    producer = TransactionalProducer(clients.transactional_producer(name), Patience(30))
    producer.open()
    return producer


def test_a_failed_transaction_is_aborted_and_the_next_is_written(topic):
    producer = opened(f"t-{uuid.uuid4()}")
    with pytest.raises(ValueError, match="no"), producer.transaction():  # noqa: PT012
        producer.produce(topic, b"k", b"aborted", [])
        producer.flush()
        raise ValueError("no")
    with producer.transaction():
        producer.produce(topic, b"k", b"committed", [("name", b"value")])
    producer.raise_if_unsure()
    [message] = read(topic, 1)
    assert (message.key(), message.value(), message.headers()) == (b"k", b"committed", [("name", b"value")])
    producer.close()


def test_a_rejected_record_raises_and_aborts(topic):
    producer = opened(f"t-{uuid.uuid4()}")
    with pytest.raises(KafkaException), producer.transaction():
        producer.produce(f"{topic}-missing", b"k", b"refused", [])
    with producer.transaction():
        producer.produce(topic, b"k", b"committed", [])
    assert [message.value() for message in read(topic, 1)] == [b"committed"]
    producer.close()


def test_the_last_one_writes_and_the_others_are_fenced_permanently(topic):
    """Whether one notices when its transaction begins at the broker, or in the middle of it."""
    name = f"t-{uuid.uuid4()}"
    idle, busy = opened(name), opened(name)
    with pytest.raises(Fenced) as in_the_middle, busy.aborted_transaction():  # noqa: PT012
        busy.produce(topic, b"k", b"aborted", [])
        busy.flush()
        last = opened(name)
    with pytest.raises(Fenced) as at_the_beginning, idle.transaction():
        idle.produce(topic, b"k", b"fenced", [])
    assert not isinstance(in_the_middle.value, Unsure), "another one has its place"
    assert not isinstance(at_the_beginning.value, Unsure), "another one has its place"
    for producer in (idle, busy):
        with pytest.raises(Fenced), producer.transaction():
            producer.produce(topic, b"k", b"fenced", [])
    with last.aborted_transaction():
        last.produce(topic, b"k", b"aborted", [])
    with last.transaction():
        last.produce(topic, b"k", b"last", [])
    assert [message.value() for message in read(topic, 1)] == [b"last"]
    for producer in (idle, busy, last):
        producer.close()


class Stopped(BaseException):
    pass


def stopping_after(calls: int) -> Callable[[], None]:
    left = iter([None] * calls + [Stopped])

    def check() -> None:
        if error := next(left):
            raise error

    return check


@pytest.fixture
def unconnected(settings) -> Producer:
    """A client that can connect to no broker, although there is one: its address is another."""
    with override_settings(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"):
        return clients.transactional_producer(f"t-{uuid.uuid4()}")


def test_an_unlimited_wait_can_be_stopped(settings):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    waiting = Endless(stopping_after(1), clients.raise_if_stranded)
    producer = TransactionalProducer(clients.transactional_producer("nobody"), waiting)
    with pytest.raises(Stopped):
        producer.open()


def test_an_unlimited_wait_ends_if_only_this_client_gets_no_response(unconnected, monkeypatch):
    monkeypatch.setattr(patience, "SILENCE_SECONDS", 1.0)
    producer = TransactionalProducer(unconnected, Endless(stopping_after(100), clients.raise_if_stranded))
    with pytest.raises(Stranded):
        producer.open()


def test_an_unlimited_wait_continues_if_nobody_gets_a_response(unconnected, monkeypatch, settings):
    monkeypatch.setattr(patience, "SILENCE_SECONDS", 1.0)
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    producer = TransactionalProducer(unconnected, Endless(stopping_after(3), clients.raise_if_stranded))
    with pytest.raises(Stopped):
        producer.open()
