"""Three brokers, three copies of which two confirm: one is killed -9 under load and comes back, and nobody notices."""

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from embedded import cache
from embedded.engines import choose
from tests.acceptance.books import check, check_placed, settle
from tests.acceptance.conftest import STAND
from tests.acceptance.stand import Stand
from tests.acceptance.test_outages import Visitors
from tests.acceptance.topics import DEAD, EVENTS, Topics
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Stand]:
    """The whole system on three brokers of its own."""
    with cache.throwaway("cluster") as folder:
        engines = choose(folder, nodes=3)
        engines.start()
        system = Stand(engines, folder)
        shared = request.config.stash.get(STAND, None)
        request.config.stash[STAND] = system  # whose last lines are shown
        try:
            system.prepare()
            system.whole()
            yield system
        finally:
            request.config.stash[STAND] = shared
            system.close()
            engines.abandon()


class Buyers(Visitors):
    """Place orders through the gateway, one after the other."""

    def run(self) -> None:
        items = [{"productId": "tea-pot", "quantity": 1, "price": 19.99}]
        while not self._stop_asked.wait(0.05):
            answer = self._system.client.post("/api/orders", json={"userId": str(uuid.uuid4()), "items": items})
            self.answers.append((answer.status_code, answer.json().get("id", answer.text)))


def test_topics_are_made_for_three_brokers(cluster):
    client = AdminClient({"bootstrap.servers": cluster.engines.kafka.bootstrap_servers})
    known = client.list_topics(timeout=10).topics
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in (*EVENTS, *DEAD)]
    for resource, future in client.describe_configs(resources).items():
        config = {entry.name: entry.value for entry in future.result(10).values()}
        assert (config["min.insync.replicas"], config["unclean.leader.election.enable"]) == ("2", "false")
        assert {len(partition.replicas) for partition in known[resource.name].partitions.values()} == {3}
    status, said = cluster.manage("orders", "topics")
    assert (status, "would be" in said) == (0, False), said


def test_a_broker_killed_under_load_loses_and_doubles_nothing(cluster):
    kafka = cluster.engines.kafka
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    victim = client.list_topics(timeout=10).topics["user.created"].partitions[0].leader
    pids = {member.name: member.pid for member in cluster.members.values()}
    visitors, buyers = Visitors(cluster), Buyers(cluster)
    with Topics(kafka.bootstrap_servers) as topics:
        for load in (visitors, buyers):
            load.start()
        try:
            eventually(lambda: len(visitors.answers) >= 20 and len(buyers.answers) >= 20)
            kafka.kill9(node=victim)
            done = "SELECT count(*) FROM orders WHERE status <> 'pending'"
            [(before,)] = cluster.rows("orderdb", done)
            eventually(lambda: cluster.rows("orderdb", done)[0][0] >= before + 60, what="two brokers go on")
            kafka.restart(node=victim)
            back = len(visitors.answers)
            eventually(lambda: len(visitors.answers) >= back + 20)
        finally:
            for load in (visitors, buyers):
                load.end()
        settle(cluster, topics)

        assert {status for status, _ in visitors.answers + buyers.answers} == {201}
        check(cluster, topics, [user_id for _, user_id in visitors.answers], relayed_once=False)
        placed = [order_id for _, order_id in buyers.answers]
        assert cluster.rows("orderdb", "SELECT count(*) FROM orders WHERE NOT is_welcome") == [(len(placed),)]
        check_placed(cluster, topics, placed)
    assert {member.name: member.pid for member in cluster.members.values() if member.alive} == pids
