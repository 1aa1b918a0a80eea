"""On a broker with Kafka's default settings, all promises hold without further configuration."""

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from chassis.kafka import clients
from tests.acceptance.default_broker import harness, topics
from tests.acceptance.keyed_load import joined
from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.open_transactions import freeze_inside_transaction
from tests.waiting import eventually

__all__ = ["harness", "topics"]

pytestmark = pytest.mark.acceptance

LONGER = "the broker rejects this session timeout, using a longer one"
DEFAULTS = {
    "auto.create.topics.enable": "true",
    "group.min.session.timeout.ms": "6000",
    "group.initial.rebalance.delay.ms": "3000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "10000",
    "message.max.bytes": "1048588",
}
"""Those that a service may run into. https://kafka.apache.org/documentation/#brokerconfigs"""


@pytest.fixture
def admin(harness) -> AdminClient:
    return AdminClient({"bootstrap.servers": harness.engines.kafka.bootstrap_servers})


def test_the_broker_has_the_defaults(admin):
    broker = ConfigResource(ResourceType.BROKER, "1")
    configuration = admin.describe_configs([broker])[broker].result(20)

    assert {name: configuration[name].value for name in DEFAULTS} == DEFAULTS


def test_the_story(system, topics):
    answer = system.client.post("/api/users", json={"email": "default@example.org", "name": "Ada Lovelace"})
    assert answer.status_code == 201, answer.text

    settle(system, topics)
    check(system, topics, [answer.json()["id"]])


@pytest.mark.parametrize("name", ["orders-consume", "payments-consume"])
def test_a_rejected_session_timeout_is_increased_and_logged_once(system, name):
    [line] = system[name].logged(LONGER)

    assert (line["refused_seconds"], line["session_seconds"]) == (4.0, 6.0)


def test_a_configured_session_timeout_that_is_rejected_is_an_error(system):
    member = system.spawn("orders-consume", CONSUMER_SESSION_TIMEOUT_SECONDS="4")

    assert member.ended(within=60) == 1
    [line] = member.logged("process failed")
    assert (
        "rejects a session timeout of 4 s: set CONSUMER_SESSION_TIMEOUT_SECONDS to its group.min.session.timeout.ms"
        in line["reason"]
    )


def test_a_killed_consumer_is_replaced(system, topics):
    users = new_ids(300)
    joined(system, "orders-consume-1")
    eventually(lambda: system["orders-consume"].metric("events_consumer_assigned_partitions") == 6)

    for user_id in users[:150]:
        topics.send_later(*wire(user_created(user_id)))
    system["orders-consume"].kill9()
    for user_id in users[150:]:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()

    settle(system, topics)
    check(system, topics, users)
    assert system["orders-consume-1"].metric("events_consumer_assigned_partitions") == 12


def test_payments_killed_inside_its_transaction_are_replaced(system, topics, raw):
    torn = freeze_inside_transaction(system, topics, raw, others=["payments-consume-1"])
    system["payments-consume"].kill9()

    settle(system, topics)
    check(system, topics, torn.users)


def test_an_event_as_large_as_is_allowed_can_be_dead_lettered(system, harness, topics):
    """With its headers it is larger than the broker allows by default: the topic's own setting is enough."""
    [key] = new_ids(1)
    value = b"x" * 1_000_000
    producer = Producer({"bootstrap.servers": harness.engines.kafka.bootstrap_servers, "message.max.bytes": 1_100_000})
    producer.produce("user.created", value, key, headers=[("more", b"y" * 60_000)])
    assert producer.flush(20) == 0

    letters = lambda: [letter for letter in topics.of("user.created.orders.dlq") if letter.key == key.encode()]  # noqa: E731
    [letter] = eventually(letters, what="the dead letter")
    assert letter.value == value


class TestNoTopicMakesItself:
    """`auto.create.topics.enable`, true by default, would create topics with one partition and one replica."""

    @pytest.fixture(autouse=True)
    def address(self, harness, settings):
        settings.KAFKA_BOOTSTRAP_SERVERS = harness.engines.kafka.bootstrap_servers

    def test_by_being_written_to(self, admin):
        errors = []
        producer = clients.producer()
        producer.produce("nobody.made.me", b"x", on_delivery=lambda error, _: errors.append(error))
        producer.flush(30)

        assert [error.code() for error in errors] in [[KafkaError._UNKNOWN_TOPIC], [KafkaError.UNKNOWN_TOPIC_OR_PART]]
        assert "nobody.made.me" not in admin.list_topics(timeout=20).topics

    def test_by_being_read(self, admin):
        consumer = clients.consumer(6.0)
        consumer.subscribe(["nobody.made.me.either"])
        message = eventually(lambda: consumer.poll(0.5), what="the consumer says that there is no such topic")
        consumer.close()

        assert message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        assert "nobody.made.me.either" not in admin.list_topics(timeout=20).topics
