"""The monitor measures what a dead consumer cannot: its lag and its members. It survives its brokers, and disturbs no group."""

import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from embedded import cache, ports
from embedded.kafka import Kafka
from embedded.processes import Child, drive
from embedded.system import MONITOR, ROOT, environment
from tests.acceptance.closed_kafka import DESCRIBE, ClosedKafka
from tests.acceptance.fixtures import prepared
from tests.acceptance.harness import READY_WITHIN, Harness, Member
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """The whole system and the monitor."""
    with prepared(request.config, "monitor") as system:
        system.restore()
        system.start("monitor")
        yield system


@pytest.fixture
def monitor(system: Harness) -> Member:
    """The running monitor."""
    drive(*(one.child.until(one.ready, within=READY_WITHIN) for one in system.members.values()))
    return system["monitor"]


@pytest.fixture
def admin(system: Harness) -> AdminClient:
    return AdminClient({"bootstrap.servers": system.engines.kafka.bootstrap_servers, "log_level": 0})


def lag(monitor: Member, group: str, topic: str) -> float | None:
    """The lag of a group in a topic; None if it is not reported."""
    found = [
        value
        for (consumergroup, _, its_topic), value in monitor.series("kafka_consumergroup_lag").items()
        if (consumergroup, its_topic) == (group, topic)
    ]
    return sum(found) if found else None


def members(monitor: Member, group: str) -> float | None:
    return monitor.series("kafka_consumergroup_members").get((group,))


def add_users(system: Harness, count: int) -> None:
    for _ in range(count):
        user = {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}
        assert system.client.post("/api/users", json=user).status_code == 201


def committed(monitor: Member, group: str, topic: str) -> float:
    """The sum of a group's committed offsets in a topic."""
    offsets = monitor.series("kafka_consumergroup_current_offset")
    return sum(
        value for (its_group, _, its_topic), value in offsets.items() if (its_group, its_topic) == (group, topic)
    )


def test_lag_and_members_of_a_running_group(system, monitor):
    add_users(system, 3)
    eventually(lambda: committed(monitor, "orders", "user.created") >= 3)
    eventually(lambda: lag(monitor, "orders", "user.created") == 0)
    eventually(lambda: members(monitor, "orders") == members(monitor, "payments") == 1)
    assert monitor.series("kafka_up") == {(): 1}
    assert monitor.series("kafka_brokers") == {(): 1}
    assert monitor.series("kafka_topic_partitions")["order.created",] == 6


def test_a_suspended_consumer_has_a_lag_and_no_member(system, monitor):
    system["orders-consume"].child.pause()
    try:
        add_users(system, 7)
        eventually(lambda: lag(monitor, "orders", "user.created") == 7)
        eventually(lambda: members(monitor, "orders") == 0)
    finally:
        system["orders-consume"].child.resume()
    eventually(lambda: lag(monitor, "orders", "user.created") == 0)
    eventually(lambda: members(monitor, "orders") == 1)


def test_it_joins_no_group_and_commits_nothing(system, monitor, admin):
    turns = monitor.metric("loop_last_turn_timestamp_seconds")
    eventually(lambda: monitor.metric("loop_last_turn_timestamp_seconds") > turns + 6)
    described = admin.describe_consumer_groups(["orders", "payments"])
    for group in described.values():
        assert [member.client_id for member in group.result(10).members] != []
        assert "monitor" not in {member.client_id for member in group.result(10).members}
        assert len(group.result(10).members) == 1
    assert system["orders-consume"].metric("events_consumer_rebalances_total") <= 3


def test_a_dead_group_is_seen_and_what_vanishes_goes_away(system, monitor, admin):
    """A group without a consumer, and a topic that is deleted afterwards."""
    servers = system.engines.kafka.bootstrap_servers
    topic, group = f"gone.{uuid.uuid4().hex[:8]}", f"dead-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    for _ in range(5):
        producer.produce(topic, b"x")
    assert producer.flush(30) == 0
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([topic])
    eventually(lambda: (message := consumer.poll(1)) is not None and message.error() is None)
    eventually(lambda: members(monitor, group) == 1)
    consumer.commit(asynchronous=False)
    consumer.close()
    eventually(lambda: members(monitor, group) == 0)
    assert 0 < lag(monitor, group, topic) < 5
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: lag(monitor, group, topic) is None, within=90)
    eventually(lambda: (topic,) not in monitor.series("kafka_topic_partitions"), within=90)
    admin.delete_consumer_groups([group])[group].result(30)
    eventually(lambda: members(monitor, group) is None, within=90)
    assert members(monitor, "orders") == 1


def test_records_of_a_dead_letter_topic(system, monitor):
    topic = "user.created.orders.dlq"
    before = monitor.series("kafka_dead_letters")[topic,]
    producer = Producer({"bootstrap.servers": system.engines.kafka.bootstrap_servers, "log_level": 0})
    producer.produce("user.created", b"not an event", b"poison")
    assert producer.flush(30) == 0
    eventually(lambda: monitor.series("kafka_dead_letters")[topic,] == before + 1, within=120)


@pytest.mark.parametrize("how", ["stop", "kill9", "pause"])
def test_it_survives_the_broker(system, monitor, how):
    kafka, pid = system.engines.kafka, monitor.pid
    getattr(kafka, how)()
    try:
        eventually(lambda: monitor.series("kafka_up") == {(): 0})
        status, said = monitor.readiness()
        assert (status, said["parts"]["broker"]["status"]) == (503, "down")
        assert said["parts"]["loop"]["status"] == "up"
        # A lag that is no longer measured is not reported as if it were.
        eventually(lambda: monitor.series("kafka_consumergroup_lag") == {}, within=90)
        assert monitor.series("kafka_consumergroup_members") == monitor.series("kafka_topic_partitions") == {}
        assert monitor.series("kafka_brokers") == {(): 0}
    finally:
        kafka.resume() if how == "pause" else kafka.restart()
    eventually(lambda: monitor.series("kafka_up") == {(): 1}, within=120)
    drive(*(one.child.until(one.ready, within=READY_WITHIN) for one in system.members.values()))
    add_users(system, 2)
    eventually(lambda: lag(monitor, "orders", "user.created") == 0, within=120)
    eventually(lambda: members(monitor, "orders") == members(monitor, "payments") == 1, within=120)
    assert monitor.pid == pid
    assert monitor.alive


@pytest.mark.parametrize("broker", ["up", "away"])
def test_sigterm_ends_it_at_once(system, monitor, broker):
    if broker == "away":
        system.engines.kafka.pause()
        eventually(lambda: monitor.series("kafka_up") == {(): 0})
    try:
        started = time.monotonic()
        monitor.terminate()
        assert monitor.ended() == 0
        # Much less than a round of requests to a broker that is away takes; not to be measured on a busy machine.
        assert time.monotonic() - started < 6
    finally:
        if broker == "away":
            system.engines.kafka.resume()
        system.start("monitor")


def test_a_consumer_that_has_never_run_has_a_lag(request):
    """Nobody has joined the group, and the broker does not know it; its dead-letter topic says what it would read."""
    with prepared(request.config, "never") as system:
        system.start("users", "orders", "payments", "gateway", "users-relay", "monitor")
        add_users(system, 4)
        eventually(lambda: lag(system["monitor"], "orders", "user.created") == 4)
        assert members(system["monitor"], "orders") == 0
        assert system["monitor"].handles(signal.SIGTERM)


def test_it_needs_only_the_right_to_describe(tmp_path):
    """With an account for one prefix, it sees nothing of another."""
    with cache.temporary_folder("monitor-acl") as folder:
        kafka = Kafka(folder / "kafka")
        closed = ClosedKafka(kafka)
        try:
            kafka.start()
            for prefix in ("blue.", "green."):
                consume_half(kafka.bootstrap_servers, f"{prefix}thing.happened", f"{prefix}reader")
            account = closed.add_account("monitor", "blue.", DESCRIBE)
            [port] = ports.free(1)
            monitor = Member(
                "monitor", MONITOR, start_monitor(tmp_path, port, account | {"KAFKA_PREFIX": "blue."}), port, {}, port
            )
            drive(monitor.child.until(monitor.ready, within=READY_WITHIN))
            eventually(lambda: lag(monitor, "blue.reader", "blue.thing.happened") == 5)
            assert monitor.series("kafka_consumergroup_members") == {("blue.reader",): 0}
            assert set(monitor.series("kafka_topic_partitions")) == {("blue.thing.happened",)}
            monitor.terminate()
            assert monitor.ended() == 0
        finally:
            kafka.abandon()


def consume_half(servers: str, topic: str, group: str) -> None:
    """Create a topic of ten records, of which the group has read five."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    for _ in range(10):
        producer.produce(topic, b"x")
    assert producer.flush(30) == 0
    client = Consumer({"bootstrap.servers": servers, "group.id": group, "log_level": 0})

    def committed() -> bool:
        try:
            client.commit(offsets=[TopicPartition(topic, 0, 5)], asynchronous=False)
        except KafkaException:
            return False  # its coordinator is being elected
        return True

    eventually(committed)
    client.close()


def start_monitor(folder: Path, port: int, changes: dict[str, str]) -> Child:
    variables = environment(MONITOR.service, addresses=changes, secret_key="")
    return Child(
        MONITOR.argv(sys.executable, port), log=folder / "monitor.log", name="monitor", cwd=ROOT,
        env=variables | changes | MONITOR.variables(port),
    )  # fmt: skip
