"""Kafka or a topic is lost and recreated under the running system, which continues with the new one from the beginning."""

import shutil
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from embedded.system import JOBS
from embedded.topics import EVENTS
from tests.acceptance.fixtures import prepared
from tests.acceptance.harness import Harness
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

BEFORE, MEANWHILE, AFTER = 60, 10, 60
SETTLED = "SELECT count(*) FROM orders WHERE user_id = ANY(%s) AND status <> 'pending'"


@pytest.fixture(scope="module")
def doomed(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """The whole system on engines of its own, whose data nobody else needs."""
    with prepared(request.config, "recreated") as system:
        system.restore()
        yield system


def register(system: Harness, count: int) -> list[str]:
    """New users, by the gateway, which takes them whatever Kafka does."""
    users = []
    for _ in range(count):
        answer = system.client.post("/api/users", json={"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
        assert answer.status_code == 201, answer.text
        users.append(answer.json()["id"])
    return users


def settled(system: Harness, users: list[str]) -> bool:
    """Whether each has an order that was paid for, or refused; what ended meanwhile is started again, as a supervisor does."""
    system.revive()
    return system.rows("orderdb", SETTLED, users) == [(len(users),)]


def test_topics_that_are_deleted_and_recreated(doomed):
    users = register(doomed, BEFORE)
    eventually(lambda: settled(doomed, users), within=60)

    client = AdminClient({"bootstrap.servers": doomed.engines.kafka.bootstrap_servers})
    for future in client.delete_topics(list(EVENTS), operation_timeout=30).values():
        future.result()
    for service in (job.service for job in JOBS):
        eventually(lambda service=service: doomed.manage(service, "topics")[0] == 0)
    users = register(doomed, AFTER)
    eventually(lambda: settled(doomed, users), within=60)
    for name in ("orders-consume", "payments-consume"):
        assert doomed[name].logged("topic was deleted and recreated, starting over") or doomed[name].logged(
            "partitions lost"
        )


def test_a_broker_recreated_at_the_same_address(doomed):
    """As one whose disk was lost: another cluster, other topics, no offsets, and producers of which it knows nothing."""
    users = register(doomed, BEFORE)
    eventually(lambda: settled(doomed, users), within=60)
    relays = {name: doomed[name].pid for name in ("users-relay", "orders-relay")}
    kafka = doomed.engines.kafka
    kafka.kill9()
    shutil.rmtree(kafka.folder)
    users = register(doomed, MEANWHILE)
    kafka.start()
    doomed.prepare()
    users += register(doomed, AFTER)
    eventually(lambda: settled(doomed, users), within=90)
    assert {name: doomed[name].pid for name in relays} == relays, "a relay had to be started again"
