"""Three brokers with three replicas, of which two acknowledge: clients do not notice that one is killed -9 under load and restarted."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from confluent_kafka import ElectionType, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, PartitionMetadata, ResourceType

from chassis.kafka import partition_offsets
from embedded.engines import choose
from tests.acceptance.fixtures import prepared
from tests.acceptance.harness import Harness
from tests.acceptance.ledger import check, check_placed, settle
from tests.acceptance.outages import Visitors, check_survivors, running
from tests.acceptance.topics import DEAD_LETTER_TOPICS, EVENTS, Topics
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """The whole system on three brokers of its own."""
    with prepared(request.config, "cluster", partial(choose, nodes=3)) as system:
        system.restore()
        yield system


def others(cluster: Harness) -> int:
    """How many orders are no welcome orders."""
    return cluster.rows("orderdb", "SELECT count(*) FROM orders WHERE NOT is_welcome")[0][0]


class Buyers(Visitors):
    """Place orders through the gateway, one after the other."""

    def __init__(self, system: Harness) -> None:
        super().__init__(system)
        self.orders_before = others(system)

    def run(self) -> None:
        items = [{"productId": "tea-pot", "quantity": 1, "price": 19.99}]
        while not self._stopping.wait(0.05):
            answer = self._system.client.post("/api/orders", json={"userId": str(uuid.uuid4()), "items": items})
            self.answers.append((answer.status_code, answer.json().get("id", answer.text)))


def test_topics_are_created_for_three_brokers(cluster):
    client = AdminClient({"bootstrap.servers": cluster.engines.kafka.bootstrap_servers})
    known = client.list_topics(timeout=10).topics
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in (*EVENTS, *DEAD_LETTER_TOPICS)]
    for resource, future in client.describe_configs(resources).items():
        config = {entry.name: entry.value for entry in future.result(10).values()}
        assert (config["min.insync.replicas"], config["unclean.leader.election.enable"]) == ("2", "false")
        assert {len(partition.replicas) for partition in known[resource.name].partitions.values()} == {3}
    status, said = cluster.manage("orders", "topics")
    assert (status, "would be" in said) == (0, False), said


@contextmanager
def load(cluster: Harness) -> Iterator[tuple[Visitors, Buyers]]:
    """Users and orders, under way when the body begins; afterwards each was answered 201, and the processes still run."""
    before = running(cluster)
    visitors, buyers = Visitors(cluster), Buyers(cluster)
    for one in (visitors, buyers):
        one.start()
    try:
        eventually(lambda: len(visitors.answers) >= 20 and len(buyers.answers) >= 20)
        yield visitors, buyers
        back = len(visitors.answers)
        eventually(lambda: len(visitors.answers) >= back + 20)
    finally:
        for one in (visitors, buyers):
            one.end()
    assert {status for status, _ in visitors.answers + buyers.answers} == {201}
    check_survivors(cluster, before)


def hold_account(cluster: Harness, topics: Topics, visitors: Visitors, buyers: Buyers, *, relayed_once: bool) -> None:
    """All that was accepted has come to its end, once.

    A worker of payments whose call into the Kafka client hung is started again, as a supervisor would (`watchdog.py`).
    """
    settle(cluster, topics, meanwhile=cluster.revive)
    check(cluster, topics, [user_id for _, user_id in visitors.answers], relayed_once=relayed_once)
    placed = [order_id for _, order_id in buyers.answers]
    assert others(cluster) == len(placed) + buyers.orders_before
    check_placed(cluster, topics, placed)


def test_a_broker_killed_under_load_loses_and_duplicates_nothing(cluster):
    kafka = cluster.engines.kafka
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    victim = client.list_topics(timeout=10).topics["user.created"].partitions[0].leader
    with Topics(kafka.bootstrap_servers) as topics:
        with load(cluster) as (visitors, buyers):
            kafka.kill9(node=victim)
            done = "SELECT count(*) FROM orders WHERE status <> 'pending'"
            [(before,)] = cluster.rows("orderdb", done)
            eventually(lambda: cluster.rows("orderdb", done)[0][0] >= before + 60, what="two brokers go on")
            kafka.restart(node=victim)
        hold_account(cluster, topics, visitors, buyers, relayed_once=False)


def test_the_offset_of_a_leader_that_does_not_respond_is_not_known(cluster):
    """librdkafka reports an offset for it, -1001, which looks like a partition without records after a time."""
    kafka = cluster.engines.kafka
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    eventually(lambda: in_sync(client), within=60, what="all copies are in sync")
    led = {
        number: one.leader for number, one in client.list_topics(timeout=10).topics["user.created"].partitions.items()
    }
    places = [TopicPartition("user.created", number) for number in led]
    later = OffsetSpec.for_timestamp(int(time.time() * 1000) + 3_600_000)
    assert set(partition_offsets.read(client, places, later, timeout=10).values()) == {-1}
    frozen = led[0]
    kafka.pause(node=frozen)
    try:
        # Both before the others elect new leaders.
        found = partition_offsets.read(client, places, later, timeout=1, partial=True)
        with pytest.raises(KafkaException, match=r"the leader of user\.created/\d does not respond"):
            partition_offsets.read(client, places, later, timeout=1)
    finally:
        kafka.resume(node=frozen)
    assert found == {("user.created", number): -1 for number, leader in led.items() if leader != frozen}


def in_sync(client: AdminClient) -> bool:
    """Whether all copies of all partitions are in sync."""
    known = client.list_topics(timeout=10).topics
    partitions = [one for topic in known.values() for one in topic.partitions.values()]
    return all(len(one.isrs) == len(one.replicas) for one in partitions)


def test_moving_leaders_are_followed(cluster):
    """A broker is restarted gracefully, which moves its leaders away; then each partition is led by its first copy again."""
    kafka = cluster.engines.kafka
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})

    def partitions() -> dict[tuple[str, int], PartitionMetadata]:
        known = client.list_topics(timeout=10).topics
        return {(name, number): one for name in known for number, one in known[name].partitions.items()}

    eventually(lambda: in_sync(client), within=60, what="all copies are in sync")
    with Topics(kafka.bootstrap_servers) as topics:
        with load(cluster) as (visitors, buyers):
            kafka.stop(node=2)
            kafka.restart(node=2)
            eventually(lambda: in_sync(client), within=60, what="all copies are in sync again")
            away = {place for place, one in partitions().items() if one.leader != one.replicas[0]}
            assert {name for name, _ in away} & set(EVENTS)
            client.elect_leaders(ElectionType.PREFERRED).result(30)
            eventually(
                lambda: all(one.leader == one.replicas[0] for one in partitions().values()), what="they are back"
            )
        hold_account(cluster, topics, visitors, buyers, relayed_once=True)
