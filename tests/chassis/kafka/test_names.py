"""Names at the broker: KAFKA_PREFIX, service and slot keep them apart."""

import uuid
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaException
from hypothesis import given
from hypothesis import strategies as st

from chassis.deadletters.record import FailedRecord
from chassis.events import registry
from chassis.events.envelope import Outgoing, seal
from chassis.kafka import clients, names
from chassis.kafka.records import Record
from chassis.runtime.dependency import Dependency
from chassis.topology import asyncapi, topics
from orders.events import OrderCreated
from tests.chassis.support.kafka_helpers import new_topic

PREFIXES = st.from_regex(r"([A-Za-z0-9][A-Za-z0-9.-]{0,6}[.-])?", fullmatch=True)
SERVICE_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
SLOTS = st.from_regex(r"[A-Za-z0-9._-]{1,8}", fullmatch=True)
PLACES = st.tuples(PREFIXES, SERVICE_NAMES, SLOTS)


@pytest.fixture
def prefix(settings) -> str:
    settings.KAFKA_PREFIX = f"p{uuid.uuid4().hex[:6]}."
    return settings.KAFKA_PREFIX


@pytest.mark.service("orders")
class TestWithPrefix:
    def test_topics_of_orders(self, prefix):
        assert set(registry.handlers()) == {f"{prefix}user.created", f"{prefix}payment.completed"}
        assert [topic.name for topic in topics.wanted(1)] == [
            f"{prefix}order.created",
            f"{prefix}user.created.orders.dlq",
            f"{prefix}payment.completed.orders.dlq",
        ]
        assert names.group() == f"{prefix}orders"
        assert names.redrive_id() == f"{prefix}orders-deadletters"

    def test_an_event_uses_its_prefixed_topic_and_plain_type(self, prefix):
        event = OrderCreated(order_id=uuid.uuid4(), user_id="u", items=[], total_amount=0, created_at=datetime.now(UTC))
        [envelope] = seal([Outgoing(event, "k")])
        said = dict(envelope.headers)
        assert envelope.topic == f"{prefix}order.created"
        assert (said["ce_type"], said["ce_source"]) == ("order.created", "/orders")
        assert said["ce_dataschema"] == "urn:events:order.created:v1"

    def test_a_dead_letter_names_its_group(self, prefix):
        record = Record(f"{prefix}user.created", 0, 0, b"k", b"", [], 0)
        said = dict(FailedRecord(record, ValueError(), 1).headers())
        assert said["deadletter-group"] == f"{prefix}orders".encode()
        assert names.service(said["deadletter-group"].decode()) == "orders"
        assert names.dead_letter_topic(record.topic) == f"{prefix}user.created.orders.dlq"

    def test_the_document_contains_addresses(self, prefix):
        document = asyncapi.document()
        assert document["channels"]["user.created"]["address"] == f"{prefix}user.created"
        said = document["operations"]["orders.receive.user.created"]["description"]
        assert f"`{prefix}orders`" in said
        assert f"`{prefix}user.created.orders.dlq`" in said

    def test_the_prefix_may_be_omitted(self, prefix):
        known = list(registry.handlers())
        assert names.resolve("user.created", known) == f"{prefix}user.created"
        assert names.resolve(f"{prefix}user.created", known) == f"{prefix}user.created"
        assert names.resolve("user.deleted", known) == "user.deleted"


@given(PLACES, PLACES)
def test_no_two_workers_share_a_transactional_id(one, other):
    """Nor a worker and whoever redrives, whatever environments, services and slots are called."""

    def called(prefix: str, service: str, slot: str) -> tuple[str, str]:
        named = names.settings
        names.settings = SimpleNamespace(KAFKA_PREFIX=prefix, SERVICE_NAME=service)  # type: ignore[assignment]
        try:
            return names.transactional_id(slot), names.redrive_id()
        finally:
            names.settings = named

    (worker, redrive), (other_worker, other_redrive) = called(*one), called(*other)
    assert (worker == other_worker) == (one == other)
    assert (redrive == other_redrive) == (one[:2] == other[:2])
    assert not {worker, other_worker} & {redrive, other_redrive}


def write(producer, topic: str) -> None:
    producer.begin_transaction()
    producer.produce(topic, b"v")
    producer.commit_transaction(10)


def opened(settings, service: str, slot: str, prefix: str = ""):
    settings.SERVICE_NAME, settings.CONSUMER_ID, settings.KAFKA_PREFIX = service, slot, prefix
    return clients.open_transactional(lambda: None, Dependency("broker"))


def test_slots_differ_between_services_and_environments(settings):
    topic = new_topic("t", partitions=1)
    run = uuid.uuid4().hex[:6]
    producers = [
        opened(settings, f"pay_{run}", "worker-0"),
        opened(settings, f"ship_{run}", "worker-0"),
        opened(settings, f"pay_{run}", "worker-0", "blue."),
        opened(settings, f"pay_{run}", "worker-1"),
    ]
    for producer in producers:
        write(producer, topic)
    taken_over = opened(settings, f"pay_{run}", "worker-0")
    write(taken_over, topic)
    with pytest.raises(KafkaException, match=r"(?i)fenced|epoch"):
        write(producers[0], topic)
    for producer in producers[1:]:
        write(producer, topic)
