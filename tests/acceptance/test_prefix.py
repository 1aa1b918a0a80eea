"""Two environments on one Kafka, each with its own KAFKA_PREFIX: both work, and neither sees anything of the other."""

import json
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from embedded import cache
from embedded.engines import Engines, choose
from embedded.postgres import PostgreSQL
from embedded.processes import drive
from tests.acceptance.closed_kafka import ClosedKafka
from tests.acceptance.faults import faults
from tests.acceptance.fixtures import shown
from tests.acceptance.harness import Harness
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

EVENTS = {"user.created", "order.created", "payment.completed"}
DEAD_LETTER_TOPICS = {"user.created.orders.dlq", "order.created.payments.dlq", "payment.completed.orders.dlq"}
GROUPS = {"orders", "payments"}
BLUE, GREEN = "blue.", "9.." + 10 * "Green-" + "."
"""Two prefixes; the other is as long, and as odd, as one may be."""
YOUNG = ("--since", "1h", "--older-than", "0s")


class Environment(Harness):
    """A whole system with databases and a Kafka account of its own, on a Kafka that it shares."""

    def __init__(self, engines: Engines, folder, prefix: str, account: dict[str, str]) -> None:
        folder.mkdir()
        super().__init__(engines, folder, KAFKA_PREFIX=prefix, **account)
        self.prefix, self.account = prefix, account
        self._servers = {"bootstrap.servers": engines.kafka.bootstrap_servers}

    def topic(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def register(self) -> str:
        """A new user, by a client of this environment; returns the id."""
        answer = self.client.post("/api/users", json={"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def status(self, user_id: str) -> str | None:
        """What became of the user's welcome order."""
        found = self.client.get("/api/orders", params={"userId": user_id}).json()["results"]
        return found[0]["status"] if found else None

    def settled(self, user_id: str) -> bool:
        return self.status(user_id) in {"paid", "failed"}

    def committed(self, group: str, topic: str) -> int:
        """How many offsets of a topic a group has passed."""
        client = Consumer(self._servers | {"group.id": f"{self.prefix}{group}"})
        try:
            numbers = client.list_topics(timeout=10).topics[self.topic(topic)].partitions
            places = [TopicPartition(self.topic(topic), number) for number in numbers]
            return sum(max(0, place.offset) for place in client.committed(places, timeout=10))
        finally:
            client.close()

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        producer = Producer(self._servers)
        producer.produce(self.topic(topic), value, key, headers=[("ce_id", str(uuid.uuid4()))])
        assert producer.flush(20) == 0

    def letters(self) -> list[dict]:
        """The undecided dead letters of orders, as the command lists them."""
        status, out, err = self.run("orders", "deadletters", "list", "--json")
        assert status == 0, err
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Environment, Environment]]:
    """Two whole systems, under the same CONSUMER_IDs, on one broker."""
    with cache.temporary_folder("prefix") as folder:
        blue = choose(folder)
        green = Engines(PostgreSQL(folder / "green-postgres"), blue.kafka)
        closed, systems = ClosedKafka(blue.kafka), []
        try:
            drive(blue.kafka.starting(), blue.postgres.starting(), green.postgres.starting())
            for name, engines, prefix in (("blue", blue, BLUE), ("green", green, GREEN)):
                systems.append(Environment(engines, folder / name, prefix, closed.add_account(name, prefix)))
            with shown(request.config, systems[0]):
                for system in systems:
                    system.prepare()
                    system.restore()
                yield systems[0], systems[1]
        finally:
            for system in systems:
                system.close()
            green.postgres.abandon()
            blue.abandon()


def test_each_has_its_own_story(both):
    """Users registered here and there in turn: each gets one order, in its own environment only, and is paid for there."""
    pids = [{member.name: member.pid for member in system.members.values()} for system in both]
    users = [[], []]
    for _ in range(20):
        for system, own in zip(both, users, strict=True):
            own.append(system.register())
    for system, own in zip(both, users, strict=True):
        for user_id in own:
            eventually(lambda system=system, user_id=user_id: system.settled(user_id))
    for system, own in zip(both, users, strict=True):
        rows = system.rows("orderdb", "SELECT user_id FROM orders")
        assert sorted(user_id for (user_id,) in rows) == sorted(own)
        assert system.rows("orderdb", "SELECT count(*) FROM inbox") == [(2 * len(own),)]  # its user, and its payment
    # payments-0 of each has its transactions to itself.
    for system, before in zip(both, pids, strict=True):
        assert {member.name: member.pid for member in system.members.values()} == before
        assert all(member.alive for member in system.members.values())
        assert system["payments-consume"].logged("fenced, starting over") == []


def test_all_broker_names_have_the_prefix(both):
    client = AdminClient({"bootstrap.servers": both[0].engines.kafka.bootstrap_servers})
    topics = {name for name in client.list_topics(timeout=10).topics if not name.startswith("__")}
    assert topics == {f"{system.prefix}{name}" for system in both for name in EVENTS | DEAD_LETTER_TOPICS}
    groups = {group.group_id for group in client.list_consumer_groups().result(10).valid}
    assert {name for name in groups if not name.startswith((BLUE, GREEN))} == set()
    assert {f"{system.prefix}{name}" for system in both for name in GROUPS} <= groups


def test_an_account_can_access_only_its_prefix(both):
    blue, green = both
    account = {
        "bootstrap.servers": blue.account["KAFKA_BOOTSTRAP_SERVERS"],
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": blue.account["KAFKA_SASL_USERNAME"],
        "sasl.password": blue.account["KAFKA_SASL_PASSWORD"],
    }
    client = AdminClient(account)
    assert set(client.list_topics(timeout=10).topics) == {blue.topic(name) for name in EVENTS | DEAD_LETTER_TOPICS}
    producer, refused = Producer(account), []
    producer.produce(green.topic("user.created"), b"v", on_delivery=lambda error, _: refused.append(error.code()))
    assert producer.flush(20) == 0
    assert refused == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


def test_the_document_contains_the_names_on_the_wire(both):
    for system in both:
        document = system.client.get("/api/asyncapi").json()
        assert set(document["channels"]) == EVENTS
        assert {channel["address"] for channel in document["channels"].values()} == {
            system.topic(name) for name in EVENTS
        }


def test_a_dead_letter_is_found_and_redriven_to_its_topic(both):
    blue, green = both
    green_has = green.committed("orders", "user.created")
    blue.start("orders-consume", RETRY_ATTEMPTS="1")
    with faults(blue) as fault:
        fault.refuse("%")
        user_id = blue.register()
        [letter] = eventually(blue.letters, what="it is a dead letter")
    assert (letter["key"], letter["topic"]) == (user_id, "blue.user.created")
    assert green.letters() == []

    blue.start("orders-consume")
    for named in ("user.created", "blue.user.created"):  # with and without the prefix
        assert f"key={user_id}" in blue.manage("orders", "deadletters", "list", "--topic", named)[1]
    status, said = blue.manage("orders", "deadletters", "redrive", "--topic", "user.created")
    assert (status, "1 dead letters redriven" in said) == (0, True), said
    eventually(lambda: blue.settled(user_id))
    assert blue.letters() == []
    assert green.committed("orders", "user.created") == green_has


def test_reconcile_finds_what_one_has_lost(both):
    blue, green = both
    blue.end(["users-relay"])
    user_id = blue.register()
    with blue.database("userdb") as connection:
        assert connection.execute("DELETE FROM outbox WHERE key = %s", [user_id]).rowcount == 1
    blue.start("users-relay")
    for service in ("users", "orders"):
        assert green.manage(service, "reconcile", *YOUNG) == (0, "Nothing found.\n")
    status, said = blue.manage("users", "reconcile", *YOUNG, "--republish")
    assert (status, said.count("neither in the outbox nor on its topic")) == (1, 1), said
    eventually(lambda: blue.settled(user_id))

    # An order of which orders says that payments has not come to it, and whose letter it finds, by names on the wire.
    blue.end(["payments-consume"])
    waiting = blue.register()
    eventually(lambda: blue.status(waiting) == "pending")
    eventually(lambda: "payments has not reached it yet" in blue.manage("orders", "reconcile", *YOUNG)[1])
    blue.start("payments-consume")
    eventually(lambda: blue.settled(waiting))
    for service in ("users", "orders"):
        assert blue.manage(service, "reconcile", *YOUNG) == (0, "Nothing found.\n")


def test_another_rereads_the_records_of_the_first(both):
    """A replay, of a topic named without the prefix, sets back this environment's group and no other."""
    blue, green = both
    green_has = green.committed("orders", "user.created")
    orders = blue.rows("orderdb", "SELECT id, status FROM orders ORDER BY id")
    blue.end(["orders-consume"])
    had = blue.committed("orders", "user.created")
    with blue.database("orderdb") as connection:
        connection.execute("DELETE FROM inbox WHERE topic = 'user.created'")
    consumer = blue.spawn("orders-consume", "--replay-from", "beginning", "--topic", "user.created")
    eventually(consumer.ready)
    eventually(lambda: blue.committed("orders", "user.created") == had)
    log = consumer.child.log.read_text()
    assert "blue.user.created/0: was at" in log
    assert "payment.completed/0: was at" not in log
    users = blue.rows("userdb", "SELECT count(*) FROM users")
    eventually(lambda: blue.rows("orderdb", "SELECT count(*) FROM inbox WHERE topic = 'user.created'") == users)
    assert blue.rows("orderdb", "SELECT id, status FROM orders ORDER BY id") == orders
    assert green.committed("orders", "user.created") == green_has


def test_a_poison_record_of_one_environment_is_no_dead_letter_of_the_other(both):
    blue, green = both
    green.send("user.created", b"k", b"no event")
    [letter] = eventually(green.letters)
    assert (letter["topic"], letter["reason"]) == (f"{GREEN}user.created", "unreadable")
    assert blue.letters() == []
    assert green.manage("orders", "deadletters", "discard", "--all")[0] == 0
    assert green.letters() == []
